#include <algorithm>

#include "common/check.h"
#include "kernels/cpu/cpu_backend.h"

// Computes the input operand of a product. Rows are computed and quantised a few at a time, so that their
// floats go no farther than the first cache, unless something else reads them.
namespace coterie::cpu {
namespace {

constexpr int64_t kPreparedFloats = 6144;  // 24 KiB of a first cache of 32 or more
constexpr int64_t kLanes = 16;             // blocks that the kernel quantises side by side

// The cost of a row, in floats of elementwise work (CpuBackend::ForRows).
int64_t RowCost(const LinearInput& input, int64_t n_in) {
  switch (input.op) {
    case LinearInput::Op::kNone:
      return n_in;
    case LinearInput::Op::kRmsNorm:
    case LinearInput::Op::kLayerNorm:
      return 2 * n_in;
    case LinearInput::Op::kSwiGlu:
    case LinearInput::Op::kGeGlu:
    case LinearInput::Op::kGelu:
      return 5 * n_in;
  }
  return n_in;
}

// Rows computed at a time: few enough for the first cache, and full groups of lanes where possible.
int RowsAtOnce(int64_t n_in) {
  int rows = 1;
  while (2 * rows * n_in <= kPreparedFloats && rows * (n_in / kPanelBlock) % kLanes != 0) rows *= 2;
  return rows;
}

void Make(const KernelTable& kernels, const LinearInput& input, int64_t begin, int rows, int64_t n_in,
          float* to) {
  const int d = static_cast<int>(n_in);
  const float* x = input.x_dev + begin * n_in;
  switch (input.op) {
    case LinearInput::Op::kNone:
      break;
    case LinearInput::Op::kRmsNorm:
      return kernels.rms_norm(x, input.weight->data(), input.eps, rows, d, to);
    case LinearInput::Op::kSwiGlu:
      return kernels.swiglu(input.x_dev + 2 * begin * n_in, rows, d, to);
    case LinearInput::Op::kGeGlu:
      return kernels.geglu(input.x_dev + 2 * begin * n_in, rows, d, to);
    case LinearInput::Op::kLayerNorm:
      return kernels.layer_norm(x, nullptr, input.weight->data(), input.bias->data(), input.eps, rows, d, to);
    case LinearInput::Op::kGelu:
      return kernels.gelu(x, rows, d, to);
  }
}

}  // namespace

size_t CpuBackend::PreparedRowsBytes(int64_t n_in) {
  // Several short rows may take more memory than one long row.
  return static_cast<size_t>(std::max(kPreparedFloats, n_in)) * sizeof(float);
}

void CpuBackend::PlanInput(const LinearInput& input, bool quantise, bool floats, LinearCall* call) {
  const bool as_is = input.op == LinearInput::Op::kNone;
  call->input = input;
  if (as_is) {
    call->args.x = input.x_dev;
  } else if (floats || input.op == LinearInput::Op::kLayerNorm) {
    COTERIE_CHECK(input.floats_dev != nullptr) << "where the rows of a product's input go";
    call->args.x = input.floats_dev;
  }
  if (quantise) {
    const auto n_blocks = static_cast<size_t>(call->args.rows * (call->args.n_in / kPanelBlock));
    quantised_.Reserve(n_blocks * sizeof(QuantisedBlock));
    call->q = quantised_.as<QuantisedBlock>();
    call->args.q = call->q;
  }
}

void CpuBackend::PrepareRows(const LinearCall& call, int begin, int end, int thread) {
  const int64_t n_in = call.args.n_in;
  const int64_t row_blocks = n_in / kPanelBlock;
  const LinearInput& input = call.input;
  if (input.op == LinearInput::Op::kNone) {
    if (call.q != nullptr) {
      kernels_->quantise(input.x_dev + begin * n_in, (end - begin) * row_blocks, call.q + begin * row_blocks);
    }
    return;
  }
  const bool keep = call.args.x != nullptr;
  if (call.q == nullptr)
    return Make(*kernels_, input, begin, end - begin, n_in, input.floats_dev + begin * n_in);
  const int step = RowsAtOnce(n_in);
  AlignedBuffer& buffer = prepared_[static_cast<size_t>(thread)];
  if (!keep) buffer.Reserve(static_cast<size_t>(step * n_in) * sizeof(float));
  for (int row = begin; row < end; row += step) {
    const int rows = std::min(step, end - row);
    float* const floats = keep ? input.floats_dev + row * n_in : buffer.as<float>();
    Make(*kernels_, input, row, rows, n_in, floats);
    kernels_->quantise(floats, rows * row_blocks, call.q + row * row_blocks);
  }
}

void CpuBackend::PrepareAllRows(const LinearCall& call) {
  if (call.q == nullptr && call.input.op == LinearInput::Op::kNone) return;
  ForRows(call.args.rows, RowCost(call.input, call.args.n_in),
          [&](int begin, int end, int thread) { PrepareRows(call, begin, end, thread); });
}

}  // namespace coterie::cpu
