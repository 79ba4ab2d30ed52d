#ifndef COTERIE_KERNELS_FORMATS_FP8_H_
#define COTERIE_KERNELS_FORMATS_FP8_H_

#include <cmath>
#include <cstdint>

#include "kernels/formats/half.h"

namespace coterie {

// The 8-bit float of OCP's specification that has 4 bits of exponent and 3 of fraction, and no infinities.
inline constexpr float kMaxE4M3 = 448.0f;

// The nearest one, ties to even; beyond the largest, the largest. Not of NaN.
inline uint8_t FloatToE4M3(float value) {
  const uint8_t sign = std::signbit(value) ? 0x80 : 0;
  const float size = std::fabs(value);
  if (size >= kMaxE4M3) return sign | 0x7e;
  // The smallest count up in steps of 2^-9; adding 2^14 leaves no smaller ones, rounded by the addition.
  if (size < 0x1p-6f) return sign | static_cast<uint8_t>(FloatToBits(size + 0x1p14f) - FloatToBits(0x1p14f));
  // The others have the upper 3 bits of a float's fraction, and an exponent whose bias is 120 less.
  const uint32_t bits = FloatToBits(size);
  return sign | static_cast<uint8_t>(((bits + 0x7ffff + (bits >> 20 & 1)) >> 20) - (120u << 3));
}

inline float E4M3ToFloat(uint8_t bits) {
  const int exponent = bits >> 3 & 15, fraction = bits & 7;
  const float size = exponent == 0 ? std::ldexp(static_cast<float>(fraction), -9)
                                   : std::ldexp(static_cast<float>(8 + fraction), exponent - 10);
  return (bits & 0x80) != 0 ? -size : size;
}

}  // namespace coterie

#endif  // COTERIE_KERNELS_FORMATS_FP8_H_
