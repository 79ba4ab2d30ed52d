#ifndef COTERIE_KERNELS_CUDA_DEVICE_CODE_H_
#define COTERIE_KERNELS_CUDA_DEVICE_CODE_H_

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>

// What only a GPU has, each as one inline function. Kernels use nothing else of that kind, so that the same
// source compiles as plain C++, with the twins of tests/gpu/emulation. Rules of kernel code:
//  - every lane of a warp calls a warp's function, and every thread of a block its barrier: no early returns
//  before one;
//  - all shared memory is dynamic (SharedMemory), none is declared;
//  - threads of different blocks meet only through Acquire, Release and atomics on unsigned counters; no
//  float is ever
//    added atomically, since the order would show in the bits;
//  - products and sums that must not be fused are plain, fused ones say Fma (nvcc gets -fmad=false).

#ifdef __CUDACC__
#include "kernels/cuda/device_code_nvcc.h"
#else
#include "emulated_device_code.h"  // tests/gpu/emulation/include
#endif

namespace coterie::cuda {

constexpr int kWarpLanes = 32;

__device__ inline int LaneId() { return static_cast<int>(threadIdx.x) % kWarpLanes; }
__device__ inline int WarpId() { return static_cast<int>(threadIdx.x) / kWarpLanes; }
__device__ inline int NumWarps() { return static_cast<int>(blockDim.x) / kWarpLanes; }

__host__ __device__ inline float Bf16ToFloat(uint16_t bits) {
  return FloatOfBits(static_cast<uint32_t>(bits) << 16);
}
// The lower and the upper half of a register of two bfloat16.
__device__ inline float LowBf16(uint32_t pair) { return FloatOfBits(pair << 16); }
__device__ inline float HighBf16(uint32_t pair) { return FloatOfBits(pair & 0xFFFF0000u); }

// Sum and maximum over the lanes of a warp, the same bits in every lane: a tree of fixed order.
__device__ inline float WarpSum(float value) {
  for (int step = kWarpLanes / 2; step > 0; step /= 2) value += ShuffleXor(value, step);
  return value;
}
__device__ inline float WarpMax(float value) {
  for (int step = kWarpLanes / 2; step > 0; step /= 2) value = fmaxf(value, ShuffleXor(value, step));
  return value;
}

}  // namespace coterie::cuda

#endif  // COTERIE_KERNELS_CUDA_DEVICE_CODE_H_
