#ifndef COTERIE_KERNELS_CPU_BLOCK_CODES_H_
#define COTERIE_KERNELS_CPU_BLOCK_CODES_H_

#include <cstdint>

#include "kernels/dtype.h"

namespace coterie::cpu {

// 32 consecutive values of a quantised row in common terms: value k = d[k / 16] · code[k] + m, where `code`
// already is what the panel stores plus its offset (kernel_table.h). For the types with binary16 scales the
// bits themselves are kept.
struct BlockCodes {
  uint8_t code[32];
  float d[2];  // of the first and the second 16 values; equal but for Q6_K
  float m;     // 0 where the type has no minimum
  uint16_t d_half;
  uint16_t m_half;
};

// Block `block` of 32 values in a row of `dtype` (GGUF layouts; quantised types only).
BlockCodes ReadBlock(DType dtype, const uint8_t* row, int64_t block);

}  // namespace coterie::cpu

#endif  // COTERIE_KERNELS_CPU_BLOCK_CODES_H_
