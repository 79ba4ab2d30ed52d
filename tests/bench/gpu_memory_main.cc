// What bases take of a GPU's memory, format by format, and what is left of it for keys and values: the table
// of docs/operations.md, from the plan that a worker prints at start (model/decoder/memory_plan.h). No weight
// is read, but there must be a GPU or an emulated one.
#include <cstdio>

#include "common/check.h"
#include "kernels/create.h"
#include "model/decoder/memory_plan.h"
#include "tests/bench/made_model.h"
#include "tests/bench/random_adapter.h"

namespace coterie::bench {
namespace {

using Weights = CudaBackendOptions::Weights;

struct Format {
  const char* name;
  DType dtype;
  Weights load = Weights::kAsStored;
};
constexpr Format kFormats[] = {{"BF16", DType::kBF16},
                               {"BF16, `--weights q8_0`", DType::kBF16, Weights::kQ8_0},
                               {"BF16, `--weights fp8`", DType::kBF16, Weights::kFp8},
                               {"Q8_0", DType::kQ8_0},
                               {"Q6_K", DType::kQ6_K},
                               {"Q5_K", DType::kQ5_K},
                               {"Q4_K", DType::kQ4_K},
                               {"Q4_0", DType::kQ4_0}};
constexpr double kGiB = 1 << 30;
constexpr int kDeviceGiB[] = {24, 48, 80, 141};
constexpr int kRank = 16;

// Bytes of a model of any number of layers: what a plan for one layer says, and how much more that for two.
struct Bytes {
  double once = 0, per_layer = 0;
  double Of(int n_layers) const { return once + per_layer * n_layers; }
};

Bytes PlannedBytes(MadeModel* model, const DecoderOps& ops, int n_kv_blocks, bool weights) {
  const auto planned = [&](int n_layers) {
    const auto files = model->Files(n_layers);
    COTERIE_CHECK(files.ok()) << ToStd(files.status().message());
    DecoderOptions options;
    options.max_batch_tokens = 2048;  // the worker's default on a GPU
    options.n_kv_blocks = n_kv_blocks;
    options.max_context = kKvBlockTokens;
    const auto plan = PlanMemory(**files, options, ops);
    COTERIE_CHECK(plan.ok()) << ToStd(plan.status().message());
    double bytes = 0;
    for (const MemoryDemand& demand : plan->demands) {
      if ((demand.what == "weights") == weights) bytes += static_cast<double>(demand.bytes);
    }
    return bytes;
  };
  const double one = planned(1), two = planned(2);
  return {one - (two - one), two - one};
}

void PrintRow(const char* shape, const Format& format) {
  ModelConfig config = *ShapeNamed(shape);
  const int n_layers = config.n_layers;
  config.n_layers = 2;
  const auto model = MadeModel::Outline(config, format.dtype);
  COTERIE_CHECK(model.ok()) << ToStd(model.status().message());
  CudaBackendOptions options;
  options.weights = format.load;
  const auto ops = CreateCudaDecoderOps(options);
  COTERIE_CHECK(ops.ok()) << ToStd(ops.status().message());
  constexpr int kManyBlocks = 1001;
  const double weights = PlannedBytes(model->get(), **ops, 1, true).Of(n_layers);
  const double others = PlannedBytes(model->get(), **ops, 1, false).Of(n_layers);
  const double more = PlannedBytes(model->get(), **ops, kManyBlocks, false).Of(n_layers);
  const double kv_token = (more - others) / ((kManyBlocks - 1) * kKvBlockTokens);
  config.n_layers = n_layers;
  std::printf("| %s, %s | %.1f | %.0f | %.1f | %.0f |", shape, format.name, weights / kGiB,
              kv_token * 1000 / (1 << 20), others / kGiB,
              static_cast<double>(AdapterBytes(config, kRank)) / (1 << 20));
  for (const int device : kDeviceGiB) {
    // As the worker has it: a sixteenth for adapters, a margin of half of that.
    const double room = device * kGiB, left = room - room / 16 - room / 32 - weights - others;
    if (left < 2048 * kv_token) {
      std::printf(" – |");
    } else {
      std::printf(" %.0f |", left / kv_token / 1000);
    }
  }
  std::printf("\n");
}

}  // namespace
}  // namespace coterie::bench

int main() {
  std::printf(
      "| base, weights | weights, GiB | KV of 1,000 tokens, MiB | everything else, GiB | an adapter of rank "
      "16, MiB |");
  for (const int device : coterie::bench::kDeviceGiB) std::printf(" %d GiB |", device);
  std::printf("\n|---|---|---|---|---|---|---|---|---|\n");
  for (const char* shape : {"1b", "8b", "70b"}) {
    for (const auto& format : coterie::bench::kFormats) coterie::bench::PrintRow(shape, format);
  }
}
