// Speed of the products of quantised weights in the fast mode, on one thread and out of the second cache,
// beside what the execution ports of this machine allow: one JSON object per line, format and number of rows.
//
//   bench_products [--isa=NAME] [--rounds=N]
//
// Each figure is the best of its runs: a neighbour on the machine can only slow one down.
#include <algorithm>
#include <cstdio>
#include <random>
#include <string>
#include <vector>

#include "kernels/cpu/isa.h"
#include "kernels/cpu/panels.h"
#include "tests/bench/harness.h"
#include "tests/bench/made_weights.h"
#include "tests/bench/port_limit.h"

namespace coterie::bench {
namespace {

constexpr int64_t kOutputs = 1024;  // 0.4 MB in 4 bits
constexpr int64_t kInputs = 768;

struct Case {
  const char* name;
  DType dtype;
  int products_per_sum;  // PortLimitGmacPerSecond
};
constexpr Case kCases[] = {{"Q4_1", DType::kQ4_1, 8}, {"Q4_0", DType::kQ4_0, 8}, {"Q4_K", DType::kQ4_K, 8},
                           {"Q5_K", DType::kQ5_K, 4}, {"Q6_K", DType::kQ6_K, 2}, {"Q8_0", DType::kQ8_0, 0}};

struct Flags {
  std::string isa = "auto";
  int rounds = 20;
};

Status Run(const Flags& flags) {
  ASSIGN_OR_RETURN(const cpu::KernelTable* kernels, cpu::SelectKernels(flags.isa == "auto" ? "" : flags.isa));
  std::mt19937 random(1);
  std::normal_distribution<float> normal;
  for (const Case& c : kCases) {
    const auto row_bytes = static_cast<size_t>(RowBytes(c.dtype, kInputs));
    std::vector<uint8_t> bytes(static_cast<size_t>(kOutputs) * row_bytes);
    const WeightPool pool(c.dtype, 0.05, 1);
    for (size_t row = 0; row < static_cast<size_t>(kOutputs); ++row) {
      pool.FillRow(row, kInputs, bytes.data() + row * row_bytes);
    }
    const HostMatrix host = {c.dtype, kOutputs, kInputs, bytes.data(), {}};
    ASSIGN_OR_RETURN(const std::unique_ptr<cpu::CpuMatrix> matrix, cpu::CpuMatrix::Pack({&host, 1}));
    const cpu::PanelSegment& segment = matrix->segments().front();
    const double limit = PortLimitGmacPerSecond(c.products_per_sum);
    for (const int rows : {1, 4, 8, 16, 64, 256}) {
      std::vector<float> x(static_cast<size_t>(rows * kInputs)), y(static_cast<size_t>(rows * kOutputs));
      for (float& value : x) value = normal(random);
      std::vector<cpu::QuantisedBlock> blocks(x.size() / cpu::kPanelBlock);
      kernels->quantise(x.data(), static_cast<int64_t>(blocks.size()), blocks.data());
      cpu::LinearArgs args = {};
      args.kind = segment.kind;
      args.panels = segment.panels;
      args.n_out = kOutputs;
      args.n_in = kInputs;
      args.rows = rows;
      args.q = blocks.data();
      args.y = y.data();
      args.y_stride = kOutputs;
      args.next_panel = segment.n_panels();
      const Times times = Measure([&] { kernels->linear(args, true, 0, segment.n_panels()); },
                                  static_cast<size_t>(flags.rounds));
      const double gmac = static_cast<double>(rows * kOutputs * kInputs) / times.best / 1e3;
      std::printf(
          "{\"bench\": \"products\", \"case\": \"%s\", \"rows\": %d, \"isa\": \"%s\", "
          "\"gmac_per_second\": %.4g, \"avx2_port_limit_gmac_per_second\": %.4g, \"share_of_limit\": %.3f}\n",
          c.name, rows, kernels->name, gmac, limit, limit > 0 ? gmac / limit : 0.0);
    }
  }
  return absl::OkStatus();
}

}  // namespace
}  // namespace coterie::bench

int main(int argc, char** argv) {
  coterie::bench::Flags values;
  coterie::FlagSet flags(
      "bench_products",
      "Products of quantised weights on one thread, beside the limit of the execution ports.");
  flags.Choice("isa", &values.isa,
               {"auto", "avx512_bf16", "avx512", "avx2", "neon_dot", "highway", "portable"},
               "the instruction set of the kernels");
  flags.Int("rounds", &values.rounds, 1, 10'000, "N",
            "runs of a case, and at least a fifth of a second; the best is printed");
  return coterie::bench::Main(&flags, argc, argv, [&] { return coterie::bench::Run(values); });
}
