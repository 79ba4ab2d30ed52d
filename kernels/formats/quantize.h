#ifndef COTERIE_KERNELS_FORMATS_QUANTIZE_H_
#define COTERIE_KERNELS_FORMATS_QUANTIZE_H_

#include <cstdint>
#include <span>

#include "common/status.h"
#include "kernels/dtype.h"

namespace coterie {

// The types that weights can be rounded to.
constexpr bool CanQuantizeTo(DType type) { return type == DType::kQ8_0 || type == DType::kQ4_1; }

// The largest magnitude that blocks of such a type can hold: 127 times the largest binary16, or that itself,
// since the minimum of a Q4_1 block is one.
constexpr float LargestQuantizable(DType type) { return type == DType::kQ8_0 ? 127.0f * 65504.0f : 65504.0f; }

// Rounds values, whole blocks of 32, to blocks of `type` in GGUF's layout (RowBytes(type, n) bytes). Scale d
// and minimum m are rounded to binary16 first, and codes are the nearest to what these then give:
//   Q8_0: d = max|x| / 127, code = rint(x / d)                          x ≈ d · code
//   Q4_1: m = min x, d = max(0, max x - m) / 15, code = rint((x - m) / d)     x ≈ d · code + m
// clamped to what the type has; 0 where d is 0. InvalidArgument names a value that is not finite or beyond
// LargestQuantizable; then `blocks` holds nothing of use.
Status Quantize(DType type, std::span<const float> values, uint8_t* blocks);

}  // namespace coterie

#endif  // COTERIE_KERNELS_FORMATS_QUANTIZE_H_
