#ifndef COTERIE_KERNELS_CPU_ISA_QUANTISE_H_
#define COTERIE_KERNELS_CPU_ISA_QUANTISE_H_

#include "kernels/cpu/kernel_table.h"

// Quantises activations in blocks of 32 with a zero point (docs/numerics.md, "Products").
namespace coterie::cpu::COTERIE_ISA {

// Quantises up to 16 blocks. Numbers of which a block has one (range, scale, zero point, sums) are computed
// with one block per lane.
inline void QuantiseLanes(const float* x, int n, QuantisedBlock* to) {
  F highest[16];
  F lowest[16];  // negated
  for (int i = 0; i < 16; ++i) {
    highest[i] = lowest[i] = Zero();
    if (i >= n) continue;
    const F first = Load(x + i * kPanelBlock);
    const F second = Load(x + i * kPanelBlock + 16);
    // Max and Min give their second operand for NaN: with zero as the first, a NaN survives.
    highest[i] = Max(Zero(), Max(first, second));
    lowest[i] = Sub(Zero(), Min(Zero(), Min(first, second)));
  }
  const F high = ReduceMax16(highest);
  const F low = ReduceMax16(lowest);
  const F range = Add(high, low);
  const F least = Set1(0x1p-100f);  // below it 254 / range might not be finite
  // For a range of NaN the comparison is false: the scale is NaN then, and so is every product.
  const F scale = SelectGreater(least, range, Zero(), Div(range, Set1(254.0f)));
  const F inverse = SelectGreater(least, range, Zero(), Div(Set1(254.0f), range));
  // Clamps nothing but a block of NaN.
  const I rounded = ToInt(Mul(Mul(Sub(high, low), Set1(0.5f)), inverse));
  const I zero = MaxI(MinI(rounded, Set1I(127)), Set1I(-127));

  alignas(64) float inverses[16];
  alignas(64) float zeros[16];
  Store(inverses, inverse);
  Store(zeros, AsFloat(zero));
  I codes[8];  // of blocks 2 i and 2 i + 1
  for (int i = 0; i < 16; i += 2) {
    const auto code = [&](int block, int half) {
      if (block >= n) return ZeroI();
      const F scaled = Mul(Load(x + block * kPanelBlock + 16 * half), Set1(inverses[block]));
      return SubI(ToInt(scaled), AsInt(Set1(zeros[block])));
    };
    // Rounding both may step over the ends by one.
    codes[i / 2] = PackClamped(code(i, 0), code(i, 1), code(i + 1, 0), code(i + 1, 1));
    int8_t nowhere[kPanelBlock];
    if (i < n) StoreHalves(to[i].q, i + 1 < n ? to[i + 1].q : nowhere, codes[i / 2]);
  }
  I first_sum, second_sum;
  SumHalves16(codes, &first_sum, &second_sum);
  first_sum = AddI(first_sum, ShiftLeft<4>(zero));
  second_sum = AddI(second_sum, ShiftLeft<4>(zero));
  // Writes the rest of each block, word by word.
  const I byte = AndI(zero, Set1I(0xff));
  const I bytes = AddI(byte, ShiftLeft<8>(byte));
  alignas(64) float scales[16];
  alignas(64) float scaled_sums[16];
  alignas(64) float half_sums[16];
  alignas(64) float four_zeros[16];
  Store(scales, scale);
  Store(scaled_sums, Mul(scale, ToFloat(AddI(first_sum, second_sum))));
  Store(half_sums, AsFloat(AddI(AndI(first_sum, Set1I(0xffff)), ShiftLeft<16>(second_sum))));
  Store(four_zeros, AsFloat(AddI(bytes, ShiftLeft<16>(bytes))));
  for (int i = 0; i < n; ++i) {
    to[i].scale = scales[i];
    to[i].scaled_sum = scaled_sums[i];
    __builtin_memcpy(to[i].half_sum, &half_sums[i], 4);
    __builtin_memcpy(&to[i].zero, &zeros[i], 4);
    __builtin_memcpy(to[i].zeros, &four_zeros[i], 4);
  }
}

inline void Quantise(const float* x, int64_t n_blocks, QuantisedBlock* to) {
  for (; n_blocks >= 16; n_blocks -= 16, x += 16 * kPanelBlock, to += 16) QuantiseLanes(x, 16, to);
  if (n_blocks > 0) QuantiseLanes(x, static_cast<int>(n_blocks), to);
}

}  // namespace coterie::cpu::COTERIE_ISA

#endif  // COTERIE_KERNELS_CPU_ISA_QUANTISE_H_
