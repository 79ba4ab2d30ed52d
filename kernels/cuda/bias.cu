#include <algorithm>

#include "kernels/cuda/device_code.h"
#include "kernels/cuda/fast_kernels.h"
#include "kernels/cuda/launch.h"

namespace coterie::cuda {
namespace {

constexpr int kBiasThreads = 256;

// A block takes every gridDim.y-th row of 256 outputs, whose bias its threads hold.
__global__ void AddBiasKernel(const float* bias, int rows, int64_t n, bool accumulate, float* y,
                              int64_t y_pitch) {
  const int64_t output = static_cast<int64_t>(blockIdx.x) * kBiasThreads + threadIdx.x;
  if (output >= n) return;
  const float value = bias[output];
  for (int row = static_cast<int>(blockIdx.y); row < rows; row += static_cast<int>(gridDim.y)) {
    float* const to = y + row * y_pitch + output;
    *to = accumulate ? *to + value : value;
  }
}

}  // namespace

void AddBias(const float* bias, int rows, int64_t n, bool accumulate, float* y, int64_t y_pitch,
             cudaStream_t stream) {
  constexpr int kMostRowBlocks = 128;
  const auto columns = static_cast<unsigned>((n + kBiasThreads - 1) / kBiasThreads);
  Launch(AddBiasKernel, dim3(columns, static_cast<unsigned>(std::min(rows, kMostRowBlocks))), kBiasThreads, 0,
         stream, bias, rows, n, accumulate, y, y_pitch);
}

}  // namespace coterie::cuda
