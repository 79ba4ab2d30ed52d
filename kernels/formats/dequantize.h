#ifndef COTERIE_KERNELS_FORMATS_DEQUANTIZE_H_
#define COTERIE_KERNELS_FORMATS_DEQUANTIZE_H_

#include <cstdint>

#include "kernels/dtype.h"

namespace coterie {

// Writes `n` values (a multiple of BlockElements(dtype)) of the blocks at `data` as float32. The order of
// operations is that of ggml's reference dequantisers, so that the result equals the `gguf` package's bit for
// bit: the scale is widened to float32 first, products and differences are rounded one by one, nothing is
// fused. `data` may be unaligned and holds RowBytes(dtype, n) bytes.
void Dequantize(DType dtype, const uint8_t* data, int64_t n, float* out);

}  // namespace coterie

#endif  // COTERIE_KERNELS_FORMATS_DEQUANTIZE_H_
