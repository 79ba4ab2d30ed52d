#ifndef COTERIE_KERNELS_CPU_ISA_MATH_H_
#define COTERIE_KERNELS_CPU_ISA_MATH_H_

#include "kernels/cpu/math_constants.h"

// Elementary functions as fixed sequences of operations, the same on every instruction set; never libm.
// Errors are measured by tests/kernels/math_test.cc. Included once per instruction set, after its simd_*.h.
namespace coterie::cpu::COTERIE_ISA {

// e^x to 1 ulp for results that are normal numbers; inf above 88.73, 0 below -103.98; NaN stays NaN.
inline F Exp(F x) {
  // Max and Min give their second operand for NaN.
  x = Max(Set1(kExpLowest), Min(Set1(kExpHighest), x));
  const F n = RoundToWhole(Mul(x, Set1(kLog2E)));
  F r = Fma(n, Set1(-kLn2High), x);
  r = Fma(n, Set1(-kLn2Low), r);
  F p = Set1(kExpPoly[4]);
  for (int i = 3; i >= 0; --i) p = Fma(p, r, Set1(kExpPoly[i]));
  p = Fma(Mul(r, r), p, r);
  return TimesPowerOf2(Add(p, Set1(1.0f)), n);
}

// 2^t for t <= 0 to 3e-6, for softmax weights that are rounded to bfloat16: 10 operations, where Exp
// takes 22. 2^0 is 1; below -126 it stays 2^-126; NaN stays NaN.
inline F Exp2Weight(F t) {
  t = Max(Set1(kExp2Lowest), t);
  const F rounded = Add(t, Set1(kExp2Round));
  const F f = Sub(t, Sub(rounded, Set1(kExp2Round)));
  F p = Set1(kExp2Poly[3]);
  for (int i = 2; i >= 0; --i) p = Fma(p, f, Set1(kExp2Poly[i]));
  p = Fma(p, f, Set1(1.0f));
  return AsFloat(AddI(AsInt(p), ShiftLeft<23>(AsInt(rounded))));
}

// x / (1 + e^-x)
inline F Silu(F x) { return Div(x, Add(Set1(1.0f), Exp(Sub(Zero(), x)))); }

// x/2 · (1 + tanh(√(2/π) (x + 0.044715 x³))), written as x / (1 + e^-2u): one exponential, no difference of
// numbers that are nearly equal.
inline F GeluTanh(F x) {
  const F twice_slope = Fma(Mul(x, x), Set1(kGeluTanhCubic), Set1(kGeluTanhLinear));
  return Div(x, Add(Set1(1.0f), Exp(Sub(Zero(), Mul(x, twice_slope)))));
}

// Odd series below 0.92, 1 - e^-p(|x|) above.
inline F Erf(F x) {
  const F a = Abs(x);
  const F z = Mul(x, x);
  F small = Set1(kErfSmall[6]);
  for (int i = 5; i >= 0; --i) small = Fma(small, z, Set1(kErfSmall[i]));
  small = Mul(x, small);
  const F c = Min(Set1(4.0f), a);
  F large = Set1(kErfLarge[8]);
  for (int i = 7; i >= 0; --i) large = Fma(large, c, Set1(kErfLarge[i]));
  large = Sub(Set1(1.0f), Exp(Sub(Zero(), large)));
  large = SelectGreater(Zero(), x, Sub(Zero(), large), large);
  return SelectGreater(a, Set1(kErfSplit), large, small);
}

}  // namespace coterie::cpu::COTERIE_ISA

#endif  // COTERIE_KERNELS_CPU_ISA_MATH_H_
