#ifndef COTERIE_KERNELS_CUDA_FAST_KERNELS_H_
#define COTERIE_KERNELS_CUDA_FAST_KERNELS_H_

#include <cuda_runtime.h>

#include <cstdint>

#include "kernels/cuda/matrix.h"

namespace coterie::cuda {

// What fast_products.h has computed around the vendor's products. Both enqueue on `stream`; all pointers are
// device memory.

// --- unpack.cu ---
// to [16 · n_strips, UnpackedPitch(w)] = the weights of strips first_strip, first_strip + 1, ... (16 outputs
// each) of a segment that is held in records, as bfloat16: each is rounded once. What fills up the last strip
// and the rows is zero.
void UnpackStrips(const WeightSegment& w, int64_t first_strip, int64_t n_strips, uint16_t* to,
                  int n_processors, cudaStream_t stream);
constexpr int64_t UnpackedPitch(const WeightSegment& w) { return PaddedInputs(w.form, w.n_in); }

// --- bias.cu ---
// y [rows, n of y_pitch] = bias [n], or += it.
void AddBias(const float* bias, int rows, int64_t n, bool accumulate, float* y, int64_t y_pitch,
             cudaStream_t stream);

}  // namespace coterie::cuda

#endif  // COTERIE_KERNELS_CUDA_FAST_KERNELS_H_
