#ifndef COTERIE_KERNELS_CPU_ISA_SIMD_PLAIN_H_
#define COTERIE_KERNELS_CPU_ISA_SIMD_PLAIN_H_

#include <cstdint>
#include <cstring>

// Functions that an instruction set can express by its other functions or through memory. They are templates,
// so that an instruction set with a better way overloads them in its own simd_*.h, which is included before:
// a function that is no template is preferred. It must give the same bits.
namespace coterie::cpu::COTERIE_ISA {

// As in simd_portable.h, which needs no copy since its lanes are in memory.
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

// The nearest whole number, ties to even, for |a| < 2^22. The sign of a zero result is not specified.
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

// The lanes of a, b, c and d as 64 bytes, clamped to int8_t.
template <class V>
inline V PackClamped(V a, V b, V c, V d) {
  int8_t bytes[64];
  const V lanes[4] = {a, b, c, d};
  for (int i = 0; i < 4; ++i) {
    StoreInt8(bytes + 16 * i, MaxI(MinI(lanes[i], Set1I(127)), Set1I(-128)));
  }
  return LoadI(bytes);
}
// Stores the lower 32 bytes of a at `first`, the upper 32 at `second`.
template <class V>
inline void StoreHalves(void* first, void* second, V a) {
  uint8_t bytes[64];
  static_assert(sizeof(a) == sizeof(bytes));
  std::memcpy(bytes, &a, sizeof(a));
  std::memcpy(first, bytes, 32);
  std::memcpy(second, bytes + 32, 32);
}

// Codes of adapters are bytes c + 128, c in [-127, 127] (kernel_table.h). An instruction set may multiply
// other bytes: CentreCodes gives them, kCodeExcess (a constant beside the tiles' sizes) is what they have
// more than c. acc + Σ (c + kCodeExcess) · q for q in [-128, 127], and acc + Σ (c + kCodeExcess), by fours of
// bytes.
template <class V>
inline V CentreCodes(V codes) {
  return codes;
}
template <class V>
inline V DotCodes(V acc, V codes, V q) {
  return Dot4(acc, codes, q);
}
template <class V>
inline V SumCodes(V acc, V codes) {
  return Dot4(acc, codes, Set1I(0x01010101));
}

// RoundToBf16 of 32 values: `first` in the low 8 lanes of the result, `second` in the high ones.
template <class V>
inline I RoundToBf16(V first, V second) {
  uint16_t p[32];
  RoundToBf16(p, first);
  RoundToBf16(p + 16, second);
  return LoadI(p);
}

// Lane i of the result is ReduceMax(v[i]), for 16 vectors.
template <class V>
inline V ReduceMax16(const V* v) {
  float largest[16];
  for (int i = 0; i < 16; ++i) largest[i] = ReduceMax(v[i]);
  return Load(largest);
}
// Sums the halves of 16 blocks of 32 bytes, two blocks per vector: lane i of `first` is the sum of the first
// 16 bytes of block i, lane i of `second` that of the other 16.
template <class V>
inline void SumHalves16(const V* blocks, V* first, V* second) {
  int8_t codes[16 * 32];
  std::memcpy(codes, blocks, sizeof(codes));
  int32_t sums[2][16] = {};
  for (int i = 0; i < 16 * 32; ++i) sums[i / 16 % 2][i / 32] += codes[i];
  *first = LoadI(sums[0]);
  *second = LoadI(sums[1]);
}

// Forces `a` to be computed here: some compilers would rather hold the operands of `a` in registers.
template <class V>
inline void Pin(V*) {}

}  // namespace coterie::cpu::COTERIE_ISA

#endif  // COTERIE_KERNELS_CPU_ISA_SIMD_PLAIN_H_
