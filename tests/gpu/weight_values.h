#ifndef COTERIE_TESTS_GPU_WEIGHT_VALUES_H_
#define COTERIE_TESTS_GPU_WEIGHT_VALUES_H_

#include "kernels/cuda/launch.h"
#include "kernels/cuda/matrix.h"
#include "kernels/cuda/weight_at.h"

namespace coterie::cuda {

static __global__ void ReadWeights(WeightSegment w, float* to) {
  const int64_t n = w.n_out * w.n_in;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < n;
       i += static_cast<int64_t>(gridDim.x) * blockDim.x) {
    to[i] = WeightAt(w, i / w.n_in, i % w.n_in);
  }
}

// to [n_out, n_in], device memory: every weight of the segment as the device reads it.
static inline void EnqueueReadWeights(const WeightSegment& segment, float* to, cudaStream_t stream) {
  Launch(ReadWeights, 8, 64, 0, stream, segment, to);
}

}  // namespace coterie::cuda

#endif  // COTERIE_TESTS_GPU_WEIGHT_VALUES_H_
