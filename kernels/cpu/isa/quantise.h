#ifndef COTERIE_KERNELS_CPU_ISA_QUANTISE_H_
#define COTERIE_KERNELS_CPU_ISA_QUANTISE_H_

#include "kernels/cpu/kernel_table.h"

// Quantising activations: blocks of 32, zero somewhere within the range (docs/numerics.md, "Products").
namespace coterie::cpu::COTERIE_ISA {

// Up to 16 blocks, one to a lane wherever a block has one number: ranges, scales, zero points, sums.
inline void QuantiseLanes(const float* x, int n, QuantisedBlock* to) {
  F highest[16];
  F lowest[16];  // negated
  for (int i = 0; i < 16; ++i) {
    highest[i] = lowest[i] = Zero();
    if (i >= n) continue;
    const F first = Load(x + i * kPanelBlock);
    const F second = Load(x + i * kPanelBlock + 16);
    highest[i] = Max(Max(first, second), Zero());
    lowest[i] = Max(Max(Sub(Zero(), first), Sub(Zero(), second)), Zero());
  }
  const F high = ReduceMax16(highest);
  const F low = ReduceMax16(lowest);
  const F range = Add(high, low);
  const F below_least = Set1(0x1.fffffep-101f);  // of a smaller range, 254 / range might not be finite
  const F scale = SelectGreater(range, below_least, Div(range, Set1(254.0f)), Zero());
  const F inverse = SelectGreater(range, below_least, Div(Set1(254.0f), range), Zero());
  const I zero = ToInt(Mul(Mul(Sub(high, low), Set1(0.5f)), inverse));

  alignas(64) float inverses[16];
  alignas(64) float zeros[16];
  Store(inverses, inverse);
  Store(zeros, AsFloat(zero));
  I codes[2][16];
  for (int i = 0; i < 16; ++i) {
    for (int half = 0; half < 2; ++half) {
      codes[half][i] = ZeroI();
      if (i >= n) continue;
      const F scaled = Mul(Load(x + i * kPanelBlock + 16 * half), Set1(inverses[i]));
      const I q = SubI(ToInt(scaled), AsInt(Set1(zeros[i])));
      codes[half][i] = MaxI(MinI(q, Set1I(127)), Set1I(-128));  // rounding both may step over the ends by one
      StoreInt8(to[i].q + 16 * half, codes[half][i]);
    }
  }
  const I first_sum = AddI(ReduceAddI16(codes[0]), ShiftLeft<4>(zero));
  const I second_sum = AddI(ReduceAddI16(codes[1]), ShiftLeft<4>(zero));
  alignas(64) float scales[16];
  alignas(64) float scaled_sums[16];
  alignas(64) float sums[2][16];
  Store(scales, scale);
  Store(scaled_sums, Mul(scale, ToFloat(AddI(first_sum, second_sum))));
  Store(sums[0], AsFloat(first_sum));
  Store(sums[1], AsFloat(second_sum));
  for (int i = 0; i < n; ++i) {
    to[i].scale = scales[i];
    to[i].scaled_sum = scaled_sums[i];
    for (int half = 0; half < 2; ++half) {
      to[i].half_sum[half] = static_cast<int16_t>(__builtin_bit_cast(int32_t, sums[half][i]));
    }
    to[i].zero = __builtin_bit_cast(int32_t, zeros[i]);
    for (int8_t& z : to[i].zeros) z = static_cast<int8_t>(to[i].zero);
  }
}

inline void Quantise(const float* x, int64_t n_blocks, QuantisedBlock* to) {
  for (; n_blocks >= 16; n_blocks -= 16, x += 16 * kPanelBlock, to += 16) QuantiseLanes(x, 16, to);
  if (n_blocks > 0) QuantiseLanes(x, static_cast<int>(n_blocks), to);
}

}  // namespace coterie::cpu::COTERIE_ISA

#endif  // COTERIE_KERNELS_CPU_ISA_QUANTISE_H_
