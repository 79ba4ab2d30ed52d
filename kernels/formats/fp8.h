#ifndef COTERIE_KERNELS_FORMATS_FP8_H_
#define COTERIE_KERNELS_FORMATS_FP8_H_

#include <cmath>
#include <cstdint>

namespace coterie {

// The 8-bit float of OCP's specification that has 4 bits of exponent and 3 of fraction, and no infinities.
inline constexpr float kMaxE4M3 = 448.0f;

// The nearest one, ties to even; beyond the largest, the largest. Not of NaN.
inline uint8_t FloatToE4M3(float value) {
  const uint8_t sign = std::signbit(value) ? 0x80 : 0;
  const float size = std::fabs(value);
  if (size >= kMaxE4M3) return sign | 0x7e;
  // Values count up in steps of 2^-9 to 2^-6, and from there on by 8 for every doubling.
  int exponent = 0;
  std::frexp(size, &exponent);
  const int unit = size < 0x1p-6f ? -9 : exponent - 4;
  const int steps = static_cast<int>(std::nearbyint(std::ldexp(size, -unit)));
  return sign | static_cast<uint8_t>(steps + 8 * (unit + 9));
}

inline float E4M3ToFloat(uint8_t bits) {
  const int exponent = bits >> 3 & 15, fraction = bits & 7;
  const float size = exponent == 0 ? std::ldexp(static_cast<float>(fraction), -9)
                                   : std::ldexp(static_cast<float>(8 + fraction), exponent - 10);
  return (bits & 0x80) != 0 ? -size : size;
}

}  // namespace coterie

#endif  // COTERIE_KERNELS_FORMATS_FP8_H_
