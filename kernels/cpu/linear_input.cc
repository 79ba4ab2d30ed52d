#include <algorithm>

#include "common/check.h"
#include "kernels/cpu/cpu_backend.h"

// What products read: rows are made and quantised a few at a time, so that they are written as floats no
// farther than the first cache, unless something else reads them as floats.
namespace coterie::cpu {
namespace {

constexpr int64_t kMadeFloats = 6144;  // 24 KiB of a first cache of 32 or more
constexpr int64_t kLanes = 16;         // blocks that the kernel quantises side by side

// What a row costs, in floats of elementwise work (CpuBackend::ForRows).
int64_t RowCost(const LinearInput& input, int64_t n_in) {
  switch (input.made) {
    case LinearInput::Made::kAsIs:
      return n_in;
    case LinearInput::Made::kRmsNorm:
    case LinearInput::Made::kLayerNorm:
      return 2 * n_in;
    case LinearInput::Made::kSwiGlu:
    case LinearInput::Made::kGelu:
      return 5 * n_in;
  }
  return n_in;
}

// Few enough for the first cache, and whole groups of lanes where that is possible.
int RowsAtOnce(int64_t n_in) {
  int rows = 1;
  while (2 * rows * n_in <= kMadeFloats && rows * (n_in / kPanelBlock) % kLanes != 0) rows *= 2;
  return rows;
}

void Make(const KernelTable& kernels, const LinearInput& input, int64_t begin, int rows, int64_t n_in,
          float* to) {
  const int d = static_cast<int>(n_in);
  const float* x = input.x_dev + begin * n_in;
  switch (input.made) {
    case LinearInput::Made::kAsIs:
      break;
    case LinearInput::Made::kRmsNorm:
      return kernels.rms_norm(x, input.weight->data(), input.eps, rows, d, to);
    case LinearInput::Made::kSwiGlu:
      return kernels.swiglu(input.x_dev + 2 * begin * n_in, rows, d, to);
    case LinearInput::Made::kLayerNorm:
      return kernels.layer_norm(x, nullptr, input.weight->data(), input.bias->data(), input.eps, rows, d, to);
    case LinearInput::Made::kGelu:
      return kernels.gelu(x, rows, d, to);
  }
}

}  // namespace

size_t CpuBackend::MadeRowsBytes(int64_t n_in) {
  // Few values to a row may mean more of them at a time than many.
  return static_cast<size_t>(std::max(kMadeFloats, n_in)) * sizeof(float);
}

void CpuBackend::PlanInput(const LinearInput& input, bool quantise, bool floats, LinearCall* call) {
  const bool as_is = input.made == LinearInput::Made::kAsIs;
  call->input = input;
  if (as_is) {
    call->args.x = input.x_dev;
  } else if (floats || input.made == LinearInput::Made::kLayerNorm) {
    COTERIE_CHECK(input.floats_dev != nullptr) << "where a product's input is to be made";
    call->args.x = input.floats_dev;
  }
  if (quantise) {
    const auto n_blocks = static_cast<size_t>(call->args.rows * (call->args.n_in / kPanelBlock));
    quantised_.Reserve(n_blocks * sizeof(QuantisedBlock));
    call->q = quantised_.as<QuantisedBlock>();
    call->args.q = call->q;
  }
}

void CpuBackend::MakeRows(const LinearCall& call, int begin, int end, int thread) {
  const int64_t n_in = call.args.n_in;
  const int64_t row_blocks = n_in / kPanelBlock;
  const LinearInput& input = call.input;
  if (input.made == LinearInput::Made::kAsIs) {
    if (call.q != nullptr) {
      kernels_->quantise(input.x_dev + begin * n_in, (end - begin) * row_blocks, call.q + begin * row_blocks);
    }
    return;
  }
  const bool keep = call.args.x != nullptr;
  if (call.q == nullptr)
    return Make(*kernels_, input, begin, end - begin, n_in, input.floats_dev + begin * n_in);
  const int step = RowsAtOnce(n_in);
  AlignedBuffer& buffer = made_[static_cast<size_t>(thread)];
  if (!keep) buffer.Reserve(static_cast<size_t>(step * n_in) * sizeof(float));
  for (int row = begin; row < end; row += step) {
    const int rows = std::min(step, end - row);
    float* const floats = keep ? input.floats_dev + row * n_in : buffer.as<float>();
    Make(*kernels_, input, row, rows, n_in, floats);
    kernels_->quantise(floats, rows * row_blocks, call.q + row * row_blocks);
  }
}

void CpuBackend::MakeAllRows(const LinearCall& call) {
  if (call.q == nullptr && call.input.made == LinearInput::Made::kAsIs) return;
  ForRows(call.args.rows, RowCost(call.input, call.args.n_in),
          [&](int begin, int end, int thread) { MakeRows(call, begin, end, thread); });
}

}  // namespace coterie::cpu
