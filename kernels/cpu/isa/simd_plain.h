#ifndef COTERIE_KERNELS_CPU_ISA_SIMD_PLAIN_H_
#define COTERIE_KERNELS_CPU_ISA_SIMD_PLAIN_H_

#include <cstdint>
#include <cstring>

// What an instruction set can do by its other functions or through memory. Templates, so that an instruction
// set that knows better says so by a function of its own in its simd_*.h, which is included before: it is
// taken sooner than a template, and gives the same bits.
namespace coterie::cpu::COTERIE_ISA {

// As simd_portable.h says, whose own need no copy: its lanes are in memory.
template <class V = F>
inline V LoadN(const float* p, int n) {
  alignas(V) float lanes[16] = {};
  std::memcpy(lanes, p, static_cast<size_t>(n) * sizeof(float));
  return Load(lanes);
}
template <class V>
inline void StoreN(float* p, V a, int n) {
  alignas(V) float lanes[16];
  Store(lanes, a);
  std::memcpy(p, lanes, static_cast<size_t>(n) * sizeof(float));
}

// To the nearest whole number, ties to even, for |a| < 2^22; the sign of a zero is open.
template <class V>
inline V RoundToWhole(V a) {
  return ToFloat(ToInt(a));
}

// a · 2^n with one rounding, for whole n in [-160, 130] and a in [1/2, 2]; a NaN stays one. In two steps, so
// that the ends (subnormal results, n = 128) are reached by rounding, not by wrapping.
template <class V>
inline V TimesPowerOf2(V a, V n) {
  const I whole = ToInt(n);
  const I half = ShiftRightSigned<1>(whole);
  const V s1 = AsFloat(ShiftLeft<23>(AddI(half, Set1I(127))));
  const V s2 = AsFloat(ShiftLeft<23>(AddI(SubI(whole, half), Set1I(127))));
  return Mul(Mul(a, s1), s2);
}

// 64 bytes: the lanes of a, b, c and d, those beyond int8_t at its nearest end.
template <class V>
inline V PackClamped(V a, V b, V c, V d) {
  int8_t bytes[64];
  const V lanes[4] = {a, b, c, d};
  for (int i = 0; i < 4; ++i) {
    StoreInt8(bytes + 16 * i, MaxI(MinI(lanes[i], Set1I(127)), Set1I(-128)));
  }
  return LoadI(bytes);
}
// 32 bytes each.
template <class V>
inline void StoreHalves(void* first, void* second, V a) {
  uint8_t bytes[64];
  static_assert(sizeof(a) == sizeof(bytes));
  std::memcpy(bytes, &a, sizeof(a));
  std::memcpy(first, bytes, 32);
  std::memcpy(second, bytes + 32, 32);
}

// RoundToBf16 of 32 values: `first` in the low 8 lanes of the result, `second` in the high ones.
template <class V>
inline I RoundToBf16(V first, V second) {
  uint16_t p[32];
  RoundToBf16(p, first);
  RoundToBf16(p + 16, second);
  return LoadI(p);
}

// Lane i of the result is what all lanes of v[i] come to, for 16 of them.
template <class V>
inline V ReduceMax16(const V* v) {
  float largest[16];
  for (int i = 0; i < 16; ++i) largest[i] = ReduceMax(v[i]);
  return Load(largest);
}
// Of 16 blocks of 32 bytes, two to a vector, lane by lane, the sums of their first and of their second 16.
template <class V>
inline void SumHalves16(const V* blocks, V* first, V* second) {
  int8_t codes[16 * 32];
  std::memcpy(codes, blocks, sizeof(codes));
  int32_t sums[2][16] = {};
  for (int i = 0; i < 16 * 32; ++i) sums[i / 16 % 2][i / 32] += codes[i];
  *first = LoadI(sums[0]);
  *second = LoadI(sums[1]);
}

// a, computed no later than here: against a compiler that would sooner keep what a is made of in registers.
template <class V>
inline void Pin(V*) {}

}  // namespace coterie::cpu::COTERIE_ISA

#endif  // COTERIE_KERNELS_CPU_ISA_SIMD_PLAIN_H_
