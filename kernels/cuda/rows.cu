#include "common/check.h"
#include "kernels/cuda/device_code.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/ops.h"
#include "kernels/cuda/row_values.h"
#include "kernels/cuda/weight_at.h"

// Ops that work row by row. All are bound by memory: threads side by side read four values each, where the
// rows are aligned for it (kCount).
namespace coterie::cuda {
namespace {

constexpr int kRowThreads = 256;
// A norm's row is one block's, and in decode few blocks run: many threads for little latency.
constexpr int kNormThreads = 512;

// A block of rows' grid has row blockIdx.x and kCount columns a thread, beginning here.
template <int kCount>
__device__ int FirstColumn() {
  return static_cast<int>(blockIdx.y * blockDim.x + threadIdx.x) * kCount;
}
template <int kCount>
dim3 GridOfRows(int rows, int d) {
  constexpr int kColumns = kRowThreads * kCount;
  return {static_cast<unsigned>(rows), static_cast<unsigned>((d + kColumns - 1) / kColumns), 1};
}

// Calls f with 4 where rows of d values are aligned to 16 bytes, else with 1.
template <class Body>
void WithCount(int d, Body f) {
  if (d % 4 == 0) {
    f(std::integral_constant<int, 4>());
  } else {
    f(std::integral_constant<int, 1>());
  }
}

__device__ int TokenAt(const StepData& step, int row, int vocab_size) {
  int id = step.token_ids[row];
  if (id < 0) id = step.sampled[-1 - id];  // FromRow
  // Where the row that it comes from was not finite, it may be any token.
  return id >= 0 && id < vocab_size ? id : 0;
}

template <int kCount>
__global__ void EmbedRows(StepData step, WeightSegment table, float* x) {
  const int row = static_cast<int>(blockIdx.x), column = FirstColumn<kCount>();
  const auto d = static_cast<int>(table.n_in);
  if (row >= *step.n_tokens || column >= d) return;  // ids past them are those of older steps
  const int token = TokenAt(step, row, static_cast<int>(table.n_out));
  Values<kCount> values;
  if (table.form == WeightForm::kBf16) {
    const int64_t at = token * PaddedInputs(WeightForm::kBf16, d) + column;
    values = LoadBf16Values<kCount>(reinterpret_cast<const uint16_t*>(table.codes) + at);
  } else {
    for (int i = 0; i < kCount; ++i) values.v[i] = WeightAt(table, token, column + i);
  }
  StoreValues(x + static_cast<int64_t>(row) * d + column, values);
}

template <int kCount>
__global__ void RmsNormRows(const float* x, const float* weight, float eps, int d, uint16_t* operand) {
  const int64_t at = static_cast<int64_t>(blockIdx.x) * d;
  const int first = static_cast<int>(threadIdx.x) * kCount;
  const int step = static_cast<int>(blockDim.x) * kCount;
  float squares = 0;
  for (int column = first; column < d; column += step) {
    const Values<kCount> values = LoadValues<kCount>(x + at + column);
    for (int i = 0; i < kCount; ++i) squares = Fma(values.v[i], values.v[i], squares);
  }
  const float inverse = InverseRms(BlockSum(squares, SharedMemory<float>()), d, eps);
  for (int column = first; column < d; column += step) {  // the row is in the first cache by now
    Values<kCount> values = LoadValues<kCount>(x + at + column);
    const Values<kCount> weights = LoadValues<kCount>(weight + column);
    for (int i = 0; i < kCount; ++i) values.v[i] = values.v[i] * inverse * weights.v[i];
    StoreOperand(operand + at + column, values);
  }
}

template <int kCount>
__global__ void SwiGluRows(const float* gate_up, int f, uint16_t* operand) {
  const int column = FirstColumn<kCount>();
  if (column >= f) return;
  const int64_t row = blockIdx.x;
  const Values<kCount> gate = LoadValues<kCount>(gate_up + 2 * row * f + column);
  Values<kCount> values = LoadValues<kCount>(gate_up + (2 * row + 1) * f + column);
  for (int i = 0; i < kCount; ++i) values.v[i] = InRange(Silu(gate.v[i]) * values.v[i]);
  StoreOperand(operand + row * f + column, values);
}

template <int kCount>
__global__ void PlainRows(const float* x, int d, uint16_t* operand) {
  const int column = FirstColumn<kCount>();
  if (column >= d) return;
  const int64_t at = static_cast<int64_t>(blockIdx.x) * d + column;
  StoreOperand(operand + at, LoadValues<kCount>(x + at));
}

template <int kCount>
__global__ void GatherLogitRows(StepData step, const float* x, int d, float* y) {
  const int row = static_cast<int>(blockIdx.x), column = FirstColumn<kCount>();
  if (row >= *step.n_logit_rows || column >= d) return;
  const int64_t from = step.logit_rows[row];
  StoreValues(y + static_cast<int64_t>(row) * d + column, LoadValues<kCount>(x + from * d + column));
}

}  // namespace

void Embed(const StepData& step, const CudaMatrix& table, int rows, float* x, cudaStream_t stream) {
  if (rows == 0) return;
  COTERIE_CHECK_EQ(table.segments().size(), size_t{1}) << "parts of the embedding table";
  const int d = static_cast<int>(table.n_in());
  WithCount(d, [&](auto count) {
    Launch(EmbedRows<count>, GridOfRows<count>(rows, d), kRowThreads, 0, stream, step, table.segments()[0],
           x);
  });
}

void RmsNormOperand(const float* x, const float* weight, float eps, int rows, int d, uint16_t* operand,
                    cudaStream_t stream) {
  if (rows == 0) return;
  WithCount(d, [&](auto count) {
    Launch(RmsNormRows<count>, rows, kNormThreads, kNormThreads / kWarpLanes * sizeof(float), stream, x,
           weight, eps, d, operand);
  });
}

void SwiGluOperand(const float* gate_up, int rows, int f, uint16_t* operand, cudaStream_t stream) {
  if (rows == 0) return;
  WithCount(f, [&](auto count) {
    Launch(SwiGluRows<count>, GridOfRows<count>(rows, f), kRowThreads, 0, stream, gate_up, f, operand);
  });
}

void PlainOperand(const float* x, int rows, int d, uint16_t* operand, cudaStream_t stream) {
  if (rows == 0) return;
  WithCount(d, [&](auto count) {
    Launch(PlainRows<count>, GridOfRows<count>(rows, d), kRowThreads, 0, stream, x, d, operand);
  });
}

void GatherRows(const StepData& step, const float* x, int rows, int d, float* y, cudaStream_t stream) {
  if (rows == 0) return;
  WithCount(d, [&](auto count) {
    Launch(GatherLogitRows<count>, GridOfRows<count>(rows, d), kRowThreads, 0, stream, step, x, d, y);
  });
}

}  // namespace coterie::cuda
