#ifndef COTERIE_KERNELS_CPU_ISA_SIMD_PORTABLE_H_
#define COTERIE_KERNELS_CPU_ISA_SIMD_PORTABLE_H_

#include <cstdint>
#include <cstring>

#include "kernels/formats/half.h"

// Sixteen lanes without any instruction set: with simd_plain.h, the specification of the vector layer.
// simd_avx512.h, simd_avx2.h and simd_highway.h give the same bits. Lanes never mix except in Reduce*, which
// adds in a tree: lane l + lane l + 8, then + 4, + 2, + 1.
//
// Standard functions that are templates or inline are avoided here: the linker might keep the copy that was
// compiled for a higher instruction set.
namespace coterie::cpu::portable {

// Sizes of the register tiles of linear.h; without vectors they only bound the size of the code.
constexpr int kQuantisedTileRows = 2;
constexpr int kWideTileRows = 2;
constexpr int kWideTilePanels = 1;
constexpr int kWideRows = 1;
constexpr int kFloatTileRows = 4;
constexpr int kCodeExcess = 128;     // CentreCodes (simd_plain.h)
constexpr int kScoreTileBlocks = 1;  // blocks of 16 keys in a tile of 12 query vectors (attention.h)
constexpr int kPairTileRows = 4;
constexpr int kPairTileVectors = 1;

struct F {
  float v[16];
};
struct I {
  int32_t v[16];
};

#define COTERIE_LANES for (int l = 0; l < 16; ++l)

inline F Set1(float x) {
  F r;
  COTERIE_LANES r.v[l] = x;
  return r;
}
inline F Zero() { return Set1(0.0f); }
inline F Load(const float* p) {
  F r;
  std::memcpy(r.v, p, sizeof(r.v));
  return r;
}
// The first n of 16 lanes, 0 <= n <= 16; the others are +0 and their memory is not touched.
inline F LoadN(const float* p, int n) {
  F r = Zero();
  std::memcpy(r.v, p, static_cast<size_t>(n) * sizeof(float));
  return r;
}
inline void Store(float* p, F a) { std::memcpy(p, a.v, sizeof(a.v)); }
inline void StoreN(float* p, F a, int n) { std::memcpy(p, a.v, static_cast<size_t>(n) * sizeof(float)); }

#define COTERIE_BINARY(Name, expression) \
  inline F Name(F a, F b) {              \
    F r;                                 \
    COTERIE_LANES r.v[l] = expression;   \
    return r;                            \
  }
COTERIE_BINARY(Add, a.v[l] + b.v[l])
COTERIE_BINARY(Sub, a.v[l] - b.v[l])
COTERIE_BINARY(Mul, a.v[l] * b.v[l])
COTERIE_BINARY(Div, a.v[l] / b.v[l])
COTERIE_BINARY(Max, a.v[l] > b.v[l] ? a.v[l] : b.v[l])  // b where either is NaN
COTERIE_BINARY(Min, a.v[l] < b.v[l] ? a.v[l] : b.v[l])
#undef COTERIE_BINARY
// a · b + c with one rounding.
inline F Fma(F a, F b, F c) {
  COTERIE_LANES c.v[l] = __builtin_fmaf(a.v[l], b.v[l], c.v[l]);
  return c;
}
inline F Abs(F a) {
  COTERIE_LANES a.v[l] = __builtin_fabsf(a.v[l]);
  return a;
}
// Lane by lane a > b ? x : y.
inline F SelectGreater(F a, F b, F x, F y) {
  COTERIE_LANES y.v[l] = a.v[l] > b.v[l] ? x.v[l] : y.v[l];
  return y;
}
// x in lanes [lo, hi), y elsewhere; 0 <= lo, hi <= 16.
inline F SelectLanes(int lo, int hi, F x, F y) {
  COTERIE_LANES y.v[l] = l >= lo && l < hi ? x.v[l] : y.v[l];
  return y;
}

inline I Set1I(int32_t x) {
  I r;
  COTERIE_LANES r.v[l] = x;
  return r;
}
inline I ZeroI() { return Set1I(0); }
inline I LoadI(const void* p) {
  I r;
  std::memcpy(r.v, p, sizeof(r.v));
  return r;
}
inline I Broadcast4Bytes(const void* p) {
  int32_t x;
  std::memcpy(&x, p, 4);
  return Set1I(x);
}
// Lanes 0 to 7 of Broadcast4Bytes(first), lanes 8 to 15 of Broadcast4Bytes(second).
inline I Broadcast4BytesTwice(const void* first, const void* second) {
  I r = Broadcast4Bytes(first);
  std::memcpy(r.v + 8, Broadcast4Bytes(second).v, sizeof(r.v) / 2);
  return r;
}
// Lane l + lane l + 8 in lanes 0 to 7; the others may hold anything.
inline I AddUpperHalf(I a) {
  for (int l = 0; l < 8; ++l) a.v[l] += a.v[l + 8];
  return a;
}
inline I AddI(I a, I b) {
  COTERIE_LANES a.v[l] = static_cast<int32_t>(static_cast<uint32_t>(a.v[l]) + static_cast<uint32_t>(b.v[l]));
  return a;
}
inline I SubI(I a, I b) {
  COTERIE_LANES a.v[l] = static_cast<int32_t>(static_cast<uint32_t>(a.v[l]) - static_cast<uint32_t>(b.v[l]));
  return a;
}
inline I AndI(I a, I b) {
  COTERIE_LANES a.v[l] &= b.v[l];
  return a;
}
inline I MaxI(I a, I b) {
  COTERIE_LANES a.v[l] = a.v[l] > b.v[l] ? a.v[l] : b.v[l];
  return a;
}
inline I MinI(I a, I b) {
  COTERIE_LANES a.v[l] = a.v[l] < b.v[l] ? a.v[l] : b.v[l];
  return a;
}
// Byte by byte, modulo 256.
inline I AddBytes(I a, I b) {
  uint8_t x[64], y[64];
  std::memcpy(x, a.v, 64);
  std::memcpy(y, b.v, 64);
  for (int i = 0; i < 64; ++i) x[i] = static_cast<uint8_t>(x[i] + y[i]);
  std::memcpy(a.v, x, 64);
  return a;
}
// acc + a · b for a in [0, 32767] and b in [-32768, 32767].
inline I AddProduct16(I acc, I a, I b) {
  COTERIE_LANES acc.v[l] += a.v[l] * b.v[l];
  return acc;
}
inline I XorI(I a, I b) {
  COTERIE_LANES a.v[l] ^= b.v[l];
  return a;
}
template <int kBits>
inline I ShiftLeft(I a) {
  COTERIE_LANES a.v[l] = static_cast<int32_t>(static_cast<uint32_t>(a.v[l]) << kBits);
  return a;
}
template <int kBits>
inline I ShiftRight(I a) {
  COTERIE_LANES a.v[l] = static_cast<int32_t>(static_cast<uint32_t>(a.v[l]) >> kBits);
  return a;
}
template <int kBits>
inline I ShiftRightSigned(I a) {
  COTERIE_LANES a.v[l] >>= kBits;
  return a;
}
// Nearest integer, ties to even. Meant for |a| < 2^22; INT32_MIN for NaN and anything out of range, where the
// instruction sets agree only from 2^31 on.
inline I ToInt(F a) {
  I r;
  COTERIE_LANES {
    const bool in_range = __builtin_fabsf(a.v[l]) < 4194304.0f;
    const float whole = (a.v[l] + 12582912.0f) - 12582912.0f;
    r.v[l] = in_range ? static_cast<int32_t>(in_range ? whole : 0.0f) : INT32_MIN;
  }
  return r;
}
inline F ToFloat(I a) {
  F r;
  COTERIE_LANES r.v[l] = static_cast<float>(a.v[l]);
  return r;
}
inline F AsFloat(I a) {
  F r;
  std::memcpy(r.v, a.v, sizeof(r.v));
  return r;
}
inline I AsInt(F a) {
  I r;
  std::memcpy(r.v, a.v, sizeof(r.v));
  return r;
}
// The low byte of each lane.
inline void StoreInt8(int8_t* p, I a) { COTERIE_LANES p[l] = static_cast<int8_t>(a.v[l] & 0xff); }

// Lane by lane acc + Σ u8[i] · s8[i] over the lane's four bytes, exactly in int32: u8 unsigned, s8 signed.
inline I Dot4(I acc, I u8, I s8) {
  uint8_t u[64];
  int8_t s[64];
  std::memcpy(u, u8.v, 64);
  std::memcpy(s, s8.v, 64);
  COTERIE_LANES acc.v[l] += u[4 * l] * s[4 * l] + u[4 * l + 1] * s[4 * l + 1] + u[4 * l + 2] * s[4 * l + 2] +
                            u[4 * l + 3] * s[4 * l + 3];
  return acc;
}
// The same where every u8 is below 16.
inline I Dot4Nibbles(I acc, I u4, I s8) { return Dot4(acc, u4, s8); }

inline F LoadBf16(const uint16_t* p) {
  F r;
  COTERIE_LANES r.v[l] = Bf16ToFloat(p[l]);
  return r;
}
// Eight of them; lanes 8 to 15 are +0.
inline F LoadBf16Half(const uint16_t* p) {
  F r = Zero();
  for (int l = 0; l < 8; ++l) r.v[l] = Bf16ToFloat(p[l]);
  return r;
}
inline F LoadF16(const uint16_t* p) {
  F r;
  COTERIE_LANES r.v[l] = HalfToFloat(p[l]);
  return r;
}
inline void StoreF16(uint16_t* p, F a) { COTERIE_LANES p[l] = FloatToHalf(a.v[l]); }

// p[l] = RoundToBf16(a[l]) of half.h; a NaN stays some NaN.
inline void RoundToBf16(uint16_t* p, F a) { COTERIE_LANES p[l] = coterie::RoundToBf16(a.v[l]); }
// Each lane of a and b holds two bfloat16, the first in its low half: fma(a0, b0, fma(a1, b1, acc)), the
// second pair first. Operands are zero or at least 2^-50, as RoundToBf16 leaves them, and acc a sum of such
// products (a multiple of 2^-114): nothing is subnormal then, and vdpbf16ps, which flushes subnormals, gives
// these bits.
inline F DotBf16(F acc, I a, I b) {
  COTERIE_LANES {
    const uint32_t x = static_cast<uint32_t>(a.v[l]);
    const uint32_t y = static_cast<uint32_t>(b.v[l]);
    const float second = __builtin_fmaf(BitsToFloat(x & 0xffff0000u), BitsToFloat(y & 0xffff0000u), acc.v[l]);
    acc.v[l] = __builtin_fmaf(BitsToFloat(x << 16), BitsToFloat(y << 16), second);
  }
  return acc;
}

inline float ReduceAdd(F a) {
  for (int half = 8; half > 0; half /= 2) {
    for (int l = 0; l < half; ++l) a.v[l] = a.v[l] + a.v[l + half];
  }
  return a.v[0];
}
inline float ReduceMax(F a) {
  for (int half = 8; half > 0; half /= 2) {
    for (int l = 0; l < half; ++l) a.v[l] = a.v[l] > a.v[l + half] ? a.v[l] : a.v[l + half];
  }
  return a.v[0];
}
inline int32_t ReduceAddI(I a) {
  int32_t sum = 0;
  COTERIE_LANES sum += a.v[l];
  return sum;
}

inline void Prefetch(const void*) {}

#undef COTERIE_LANES

}  // namespace coterie::cpu::portable

#endif  // COTERIE_KERNELS_CPU_ISA_SIMD_PORTABLE_H_
