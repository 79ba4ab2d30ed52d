#ifndef COTERIE_KERNELS_FORMATS_HALF_H_
#define COTERIE_KERNELS_FORMATS_HALF_H_

#include <cstdint>
#include <cstring>

// IEEE 754 binary16 and bfloat16, by integer arithmetic: the same bits as the conversion instructions for
// every value that is not NaN; to float32 a NaN keeps its payload, as numpy's conversion does. Rounding is to
// nearest, ties to even; overflow gives infinity. Static, since files compiled for different instruction sets
// include this.
namespace coterie {

static inline float BitsToFloat(uint32_t bits) { return __builtin_bit_cast(float, bits); }
static inline uint32_t FloatToBits(float x) { return __builtin_bit_cast(uint32_t, x); }

static inline float Bf16ToFloat(uint16_t h) { return BitsToFloat(static_cast<uint32_t>(h) << 16); }

static inline uint16_t FloatToBf16(float x) {
  if (x != x) return 0x7fc0;
  const uint32_t bits = FloatToBits(x);
  return static_cast<uint16_t>((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

// The operands of DotBf16 (simd_portable.h): the nearest bfloat16, but +0 below 2^-50, so that no product or
// partial sum is subnormal.
static inline uint16_t RoundToBf16(float x) { return __builtin_fabsf(x) < 0x1p-50f ? 0 : FloatToBf16(x); }

static inline float HalfToFloat(uint16_t h) {
  const uint32_t sign = static_cast<uint32_t>(h & 0x8000) << 16;
  const uint32_t exponent = (h >> 10) & 0x1f;
  const uint32_t fraction = h & 0x3ff;
  if (exponent == 0x1f) return BitsToFloat(sign | 0x7f800000 | (fraction << 13));
  if (exponent != 0) return BitsToFloat(sign | ((exponent + 112) << 23) | (fraction << 13));
  const float magnitude = static_cast<float>(fraction) * 0x1p-24f;  // exact, subnormal or zero
  return BitsToFloat(sign | FloatToBits(magnitude));
}

static inline uint16_t FloatToHalf(float x) {
  const uint32_t bits = FloatToBits(x);
  const uint16_t sign = static_cast<uint16_t>((bits >> 16) & 0x8000);
  const uint32_t magnitude = bits & 0x7fffffff;
  if (magnitude > 0x7f800000) return static_cast<uint16_t>(sign | 0x7e00);
  if (magnitude >= 0x477ff000)
    return static_cast<uint16_t>(sign | 0x7c00);  // 65520 and above round to infinity
  if (magnitude < 0x38800000) {
    // Below 2^-14: adding 0.5 puts the 10 subnormal bits at the end of the fraction, rounded by the addition.
    const float shifted = BitsToFloat(magnitude) + 0.5f;
    return static_cast<uint16_t>(sign | (FloatToBits(shifted) - 0x3f000000));
  }
  const uint32_t rounded = magnitude + 0xfff + ((magnitude >> 13) & 1);
  return static_cast<uint16_t>(sign | ((rounded - 0x38000000) >> 13));
}

// Little-endian values of a file, wherever they stand (every machine we build for is little-endian).
static inline uint16_t LoadU16(const uint8_t* p) {
  uint16_t v;
  std::memcpy(&v, p, sizeof v);
  return v;
}
static inline uint32_t LoadU32(const uint8_t* p) {
  uint32_t v;
  std::memcpy(&v, p, sizeof v);
  return v;
}

}  // namespace coterie

#endif  // COTERIE_KERNELS_FORMATS_HALF_H_
