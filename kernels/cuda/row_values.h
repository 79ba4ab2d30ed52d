#ifndef COTERIE_KERNELS_CUDA_ROW_VALUES_H_
#define COTERIE_KERNELS_CUDA_ROW_VALUES_H_

#include <cmath>

#include "kernels/cuda/device_code.h"
#include "kernels/number_limits.h"

// Helpers of kernels that work on rows of float32.

namespace coterie::cuda {

__device__ inline float NotANumber() { return FloatOfBits(0x7FFFFFFFu); }

// The value, or NaN where it is out of range: an infinity could vanish under a softmax, NaN cannot. Unlike
// the CPU, which spoils the whole row for the sake of its quantised blocks, only the value itself needs to
// go: every output of a product in bfloat16 reads it.
__device__ inline float InRange(float value) { return fabsf(value) < kValueLimit ? value : NotANumber(); }

// 1 / sqrt(mean square + eps), NaN for a row out of range.
__device__ inline float InverseRms(float squares, int d, float eps) {
  return squares < kSquaresLimit ? 1.0f / sqrtf(squares / static_cast<float>(d) + eps) : NotANumber();
}

// x / (1 + e^-x).
__device__ inline float Silu(float x) { return x / (1.0f + expf(-x)); }

// Sum over the threads of a block, the same bits in every thread. `shared` has room for a float a warp, and
// nobody reads it from an earlier call any more.
__device__ inline float BlockSum(float value, float* shared) {
  value = WarpSum(value);
  if (LaneId() == 0) shared[WarpId()] = value;
  BlockBarrier();
  float sum = 0;
  for (int warp = 0; warp < NumWarps(); ++warp) sum += shared[warp];
  return sum;
}

// 1 or 4 neighbouring float32 values, and the same as bfloat16.
template <int kCount>
struct Values {
  float v[kCount];
};
template <int kCount>
__device__ Values<kCount> LoadValues(const float* from) {
  if constexpr (kCount == 4) {
    const float4 v = *reinterpret_cast<const float4*>(from);
    return {{v.x, v.y, v.z, v.w}};
  } else {
    return {{*from}};
  }
}
template <int kCount>
__device__ Values<kCount> LoadBf16Values(const uint16_t* from) {
  if constexpr (kCount == 4) {
    const uint2 pairs = *reinterpret_cast<const uint2*>(from);
    return {{LowBf16(pairs.x), HighBf16(pairs.x), LowBf16(pairs.y), HighBf16(pairs.y)}};
  } else {
    return {{Bf16ToFloat(*from)}};
  }
}
template <int kCount>
__device__ void StoreValues(float* to, const Values<kCount>& values) {
  if constexpr (kCount == 4) {
    *reinterpret_cast<float4*>(to) = make_float4(values.v[0], values.v[1], values.v[2], values.v[3]);
  } else {
    *to = values.v[0];
  }
}
template <int kCount>
__device__ void StoreOperand(uint16_t* to, const Values<kCount>& values) {
  if constexpr (kCount == 4) {
    *reinterpret_cast<uint2*>(to) =
        make_uint2(PackBf16(values.v[0], values.v[1]), PackBf16(values.v[2], values.v[3]));
  } else {
    *to = FloatToBf16(values.v[0]);
  }
}

}  // namespace coterie::cuda

#endif  // COTERIE_KERNELS_CUDA_ROW_VALUES_H_
