#ifndef COTERIE_KERNELS_CUDA_LINEAR_PRODUCT_H_
#define COTERIE_KERNELS_CUDA_LINEAR_PRODUCT_H_

#include <type_traits>

#include "kernels/cuda/linear_expand.h"
#include "kernels/cuda/linear_forms.h"
#include "kernels/cuda/matrix.h"

namespace coterie::cuda {

// A product of few rows with one segment of weights.
struct LinearProduct {
  const uint16_t* x = nullptr;  // [rows, w.n_in], bfloat16
  int rows = 0;
  int first_row = 0;  // of the step, whose rows adapters' tiles name
  WeightSegment w;
  const float* bias = nullptr;  // of all outputs of the matrix; null: none
  bool accumulate = false;
  float* y = nullptr;     // [rows, y_pitch]
  int64_t y_pitch = 0;    // outputs of the whole matrix
  bool adapters = false;  // then `lora` says which
  bool shrink = false;    // computes their t first; else it is there already
  LoraProduct lora;
  SplitScratch split;
};

// x[row, k .. k + 7] of up to kSmallRows rows, zeros behind the end of the row.
__device__ inline uint4 LoadInputs(const uint16_t* x, int row, int n_in, int64_t k) {
  const uint16_t* from = x + (row * n_in + static_cast<int>(k));
  if (n_in % 8 == 0) return k < n_in ? *reinterpret_cast<const uint4*>(from) : uint4{0, 0, 0, 0};
  uint32_t pairs[4];
  for (int i = 0; i < 4; ++i) {
    const uint32_t low = k + 2 * i < n_in ? from[2 * i] : 0u;
    const uint32_t high = k + 2 * i + 1 < n_in ? from[2 * i + 1] : 0u;
    pairs[i] = low | high << 16;
  }
  return {pairs[0], pairs[1], pairs[2], pairs[3]};
}

template <WeightForm kForm>
__device__ inline void LoadInputFragments(const LinearProduct& p, int row, int64_t k, int t,
                                          uint32_t (&b)[2][2]) {
  // The 8 inputs at 8 t of a block; for kQ6K, 4 of them at 4 t of each half.
  const int first = kForm == WeightForm::kQ6K ? t / 2 * 8 : t * 8;
  const uint4 zero = {0, 0, 0, 0};
  const uint4 v = row < p.rows ? LoadInputs(p.x, row, static_cast<int>(p.w.n_in), k + first) : zero;
  b[0][0] = v.x;
  b[0][1] = v.y;
  b[1][0] = v.z;
  b[1][1] = v.w;
  if constexpr (kForm == WeightForm::kQ6K) {
    const uint4 next = row < p.rows ? LoadInputs(p.x, row, static_cast<int>(p.w.n_in), k + 16 + first) : zero;
    if (t % 2 == 1) {
      b[0][0] = v.z;
      b[0][1] = v.w;
    }
    b[1][0] = t % 2 == 0 ? next.x : next.z;
    b[1][1] = t % 2 == 0 ? next.y : next.w;
  }
}

// What becomes of the sum of an output (of the segment) over K, before adapters' delta is added.
template <WeightForm kForm>
__device__ inline float FinishOutput(const LinearProduct& p, int64_t output, float total, float old) {
  if constexpr (kForm == WeightForm::kFp8) total *= p.w.output_scales[output];
  if (p.bias != nullptr) total += p.bias[p.w.first_out + output];
  if (p.accumulate) total = old + total;
  return total;
}

// f(the form as a constant of the type).
template <class Body>
bool WithForm(WeightForm form, Body f) {
#define COTERIE_CASE(name) \
  case WeightForm::name:   \
    return f(std::integral_constant<WeightForm, WeightForm::name>())
  switch (form) {
    COTERIE_CASE(kBf16);
    COTERIE_CASE(kF16);
    COTERIE_CASE(kPair);
    COTERIE_CASE(kFp8);
    COTERIE_CASE(kCodes8);
    COTERIE_CASE(kCodes5);
    COTERIE_CASE(kCodes5Min);
    COTERIE_CASE(kCodes4);
    COTERIE_CASE(kCodes4Min);
    COTERIE_CASE(kQ4K);
    COTERIE_CASE(kQ5K);
    COTERIE_CASE(kQ6K);
  }
#undef COTERIE_CASE
  return false;
}

// Few rows with their adapters: in one launch, or in windows of rows with one each (RowsOfSmallWindow).
// `groups`: how many blocks share K (1, 2, 4, 8) of up to kSmallRows rows at once, which no bit depends on;
// 0: as many, and as many windows, as pay. linear_small.cu
void LinearSmall(const LinearProduct& product, int n_processors, cudaStream_t stream, int groups = 0);

// Any number of rows, without adapters: the same sums. False, and nothing done, where a row is no multiple of
// 16 bytes. linear_large.cu
bool LinearLarge(const LinearProduct& product, cudaStream_t stream);

// The adapters of any number of rows, for y that holds the base's product: the same sums. linear_lora.cu
void LoraRows(const LoraProduct& lora, int rows, float* y, int64_t y_pitch, int n_processors,
              cudaStream_t stream);

}  // namespace coterie::cuda

#endif  // COTERIE_KERNELS_CUDA_LINEAR_PRODUCT_H_
