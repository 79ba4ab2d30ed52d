#ifndef COTERIE_KERNELS_CPU_ISA_SIMD_POWER_OF_TWO_H_
#define COTERIE_KERNELS_CPU_ISA_SIMD_POWER_OF_TWO_H_

// For instruction sets that cannot scale by a power of two at once; included after their simd_*.h.
namespace coterie::cpu::COTERIE_ISA {

// To the nearest whole number, ties to even, for |a| < 2^22; the sign of a zero is open.
inline F RoundToWhole(F a) { return ToFloat(ToInt(a)); }

// a · 2^n with one rounding, for whole n in [-160, 130] and a in [1/2, 2]; a NaN stays one. In two steps, so
// that the ends (subnormal results, n = 128) are reached by rounding, not by wrapping.
inline F TimesPowerOf2(F a, F n) {
  const I whole = ToInt(n);
  const I half = ShiftRightSigned<1>(whole);
  const F s1 = AsFloat(ShiftLeft<23>(AddI(half, Set1I(127))));
  const F s2 = AsFloat(ShiftLeft<23>(AddI(SubI(whole, half), Set1I(127))));
  return Mul(Mul(a, s1), s2);
}

}  // namespace coterie::cpu::COTERIE_ISA

#endif  // COTERIE_KERNELS_CPU_ISA_SIMD_POWER_OF_TWO_H_
