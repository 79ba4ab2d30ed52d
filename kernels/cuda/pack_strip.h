#ifndef COTERIE_KERNELS_CUDA_PACK_STRIP_H_
#define COTERIE_KERNELS_CUDA_PACK_STRIP_H_

#include <cstdint>
#include <span>

#include "common/status.h"
#include "kernels/cuda/weight_layout.h"
#include "kernels/dtype.h"

namespace coterie::cuda {

// A row of weights as its file holds it; data null: zeros, to fill up a strip.
struct SourceRow {
  DType dtype = DType::kF32;
  const uint8_t* data = nullptr;
};

// Where the packed bytes of a strip go, in host memory that is all zeros.
struct StripTarget {
  uint8_t* codes = nullptr;        // [StripBytes]; of kPair the upper halves: [16, padded inputs]
  uint8_t* low_halves = nullptr;   // of kPair
  float* output_scales = nullptr;  // [16], of kFp8
};

// Packs up to 16 rows of n_in weights. InvalidArgument for values that the form cannot hold: those of a
// rounding form (kFp8, or kCodes8 of floats) that are not finite or too large; it names the row.
Status PackStrip(WeightForm form, std::span<const SourceRow> rows, int64_t n_in, const StripTarget& to);

}  // namespace coterie::cuda

#endif  // COTERIE_KERNELS_CUDA_PACK_STRIP_H_
