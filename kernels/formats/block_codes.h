#ifndef COTERIE_KERNELS_FORMATS_BLOCK_CODES_H_
#define COTERIE_KERNELS_FORMATS_BLOCK_CODES_H_

#include <cstdint>

#include "kernels/dtype.h"

namespace coterie {

// 32 consecutive values of a quantised row in common terms: value k = d[k / 16] · (code[k] - CodeOffset) + m.
// d_half and m_half are the stored binary16; in K types, d = d_half · d_factor and m = -m_half · m_factor.
struct BlockCodes {
  uint8_t code[32];
  float d[2];  // of the first and the second 16 values; equal but for Q6_K
  float m;     // 0 where the type has no minimum
  uint16_t d_half;
  uint16_t m_half;
  int8_t d_factor[2];
  int8_t m_factor;
};

// The offset that is added to signed codes so that they are stored unsigned. Q5_0, Q6_K, Q3_K and IQ4_NL have
// that of Q8_0, since the CPU's panels store their codes in 8 bits, too.
constexpr int CodeOffset(DType dtype) {
  switch (dtype) {
    case DType::kQ4_0:
      return 8;
    case DType::kQ8_0:
    case DType::kQ5_0:
    case DType::kQ6_K:
    case DType::kQ3_K:
    case DType::kIQ4_NL:
      return 128;
    default:
      return 0;
  }
}
constexpr bool HasMinimum(DType dtype) {
  return dtype == DType::kQ4_1 || dtype == DType::kQ5_1 || dtype == DType::kQ4_K || dtype == DType::kQ5_K;
}

// Block `block` of 32 values in a row of `dtype` (GGUF layouts; quantised types only).
BlockCodes ReadBlock(DType dtype, const uint8_t* row, int64_t block);

}  // namespace coterie

#endif  // COTERIE_KERNELS_FORMATS_BLOCK_CODES_H_
