#ifndef COTERIE_KERNELS_CPU_ISA_LORA_H_
#define COTERIE_KERNELS_CPU_ISA_LORA_H_

#include "kernels/cpu/isa/linear.h"
#include "kernels/cpu/isa/rows.h"
#include "kernels/cpu/kernel_table.h"

// Adapters in 8 bits (kernel_table.h, LoraShrinkArgs and LoraExpandArgs; docs/numerics.md, "LoRA"). Few rows
// share an adapter, so time goes into reading its panels: they are read once, in one stream, with nothing
// padded.
namespace coterie::cpu::COTERIE_ISA {

constexpr int kLoraTileRows = 4;

// ---- Shrink: t = A x over the activations that the base's product quantised. ----
// kHalf: the panel of 8 outputs, whose lanes 8 to 15 take the second half of a block; the halves of the exact
// dot product are added before anything is rounded.
template <bool kHalf, int R>
inline void ShrinkTile(const LoraShrinkArgs& a, int row, int panel) {
  constexpr int kOutputs = kHalf ? 8 : 16;
  constexpr int kVectors = kOutputs / 2;
  constexpr int kBlockBytes = kLoraOutputBlockBytes * kOutputs;
  const int64_t nb = a.n_in / kPanelBlock;
  const uint8_t* w = a.panels + panel * nb * kLoraOutputBlockBytes * kPanelOutputs;
  const QuantisedBlock* blocks[R];
  for (int r = 0; r < R; ++r) blocks[r] = a.x + a.x_rows[row + r] * nb;
  F acc[R];
  for (int r = 0; r < R; ++r) acc[r] = Zero();
  for (int64_t b = 0; b < nb; ++b, w += kBlockBytes) {
    PrefetchAhead(w, kBlockBytes);
    I sum = ZeroI();
    I dot[R];
    for (int r = 0; r < R; ++r) {
      dot[r] = ZeroI();
    }
#pragma GCC unroll 8
    for (int j = 0; j < kVectors; ++j) {
      const I codes = CentreCodes(LoadI(w + 2 * kOutputs + 64 * j));
      sum = SumCodes(sum, codes);
      for (int r = 0; r < R; ++r) {
        const int8_t* p = blocks[r][b].q + 4 * j;
        dot[r] = DotCodes(dot[r], codes, kHalf ? Broadcast4BytesTwice(p, p + 16) : Broadcast4Bytes(p));
      }
    }
    F d;
    if constexpr (kHalf) {
      d = LoadBf16Half(reinterpret_cast<const uint16_t*>(w));
    } else {
      d = LoadBf16(reinterpret_cast<const uint16_t*>(w));
    }
    for (int r = 0; r < R; ++r) {
      const QuantisedBlock& block = blocks[r][b];
      // In 16 bits: a sum that may be negative must not meet a zero point's sign in its upper half.
      const int32_t zero = kCodeExcess == 0 ? block.zero & 0xffff : block.zero;
      I whole = AddProduct16(dot[r], sum, Set1I(zero));
      if (kHalf) whole = AddUpperHalf(whole);
      whole = AddI(whole, Set1I(-kCodeExcess * (block.half_sum[0] + block.half_sum[1])));
      acc[r] = Fma(ToFloat(whole), Mul(d, Set1(block.scale)), acc[r]);
    }
  }
  const int n = a.rank - panel * kPanelOutputs < kOutputs ? a.rank - panel * kPanelOutputs : kOutputs;
  for (int r = 0; r < R; ++r) StoreUpTo(a.t + (row + r) * a.t_stride + panel * kPanelOutputs, acc[r], n);
}

template <bool kHalf>
[[gnu::noinline]] inline void ShrinkPanel(const LoraShrinkArgs& a, int panel) {
  int row = 0;
  for (; row + kLoraTileRows <= a.rows; row += kLoraTileRows) ShrinkTile<kHalf, kLoraTileRows>(a, row, panel);
  static_assert(kLoraTileRows == 4);
  switch (a.rows - row) {
    case 1:
      return ShrinkTile<kHalf, 1>(a, row, panel);
    case 2:
      return ShrinkTile<kHalf, 2>(a, row, panel);
    case 3:
      return ShrinkTile<kHalf, 3>(a, row, panel);
  }
}

inline void ShrinkLora(const LoraShrinkArgs& a, int panel_begin, int panel_end) {
  for (int panel = panel_begin; panel < panel_end; ++panel) {
    if (a.rank - panel * kPanelOutputs <= kPanelOutputs / 2) {
      ShrinkPanel<true>(a, panel);
    } else {
      ShrinkPanel<false>(a, panel);
    }
  }
}

// ---- t in 8 bits, symmetric, one scale per 32 values. ----
inline void QuantiseLora(const float* t, int rank, int8_t* q, LoraBlock* blocks) {
  for (int begin = 0; begin < rank; begin += kPanelBlock, ++blocks) {
    const int n = rank - begin < kPanelBlock ? rank - begin : kPanelBlock;
    const F first = LoadUpTo(t + begin, n < 16 ? n : 16);
    const F second = n > 16 ? LoadUpTo(t + begin + 16, n - 16) : Zero();
    const float most = ReduceMax(Max(Abs(first), Abs(second)));
    // The maximum of numbers and a NaN may be a number; the sum of their products with zero is NaN.
    const bool numbers = ReduceAdd(Fma(first, Zero(), Mul(second, Zero()))) == 0;
    const bool empty = !(most >= 0x1p-100f);  // 127 / most must be finite
    const F inverse = Set1(empty ? 0.0f : 127.0f / most);
    // Rounding both may step over the ends by one.
    const I q1 = MaxI(MinI(ToInt(Mul(first, inverse)), Set1I(127)), Set1I(-127));
    StoreInt8(q + begin, q1);
    int32_t sum = ReduceAddI(q1);
    if (n > 16) {
      const I q2 = MaxI(MinI(ToInt(Mul(second, inverse)), Set1I(127)), Set1I(-127));
      StoreInt8(q + begin + 16, q2);
      sum += ReduceAddI(q2);
    }
    blocks->scale = !numbers ? __builtin_nanf("") : empty ? 0.0f : most / 127.0f;
    blocks->offset = -kCodeExcess * sum;
  }
}

// ---- Expand: y += alpha · B t. ----
inline void AddScaled(const LoraExpandArgs& a, int64_t row, int64_t output, F sum) {
  const F alpha = Set1(a.row_alphas[row] * a.alpha);
  if (a.y_rows != nullptr) row = a.y_rows[row];
  float* y = a.y + row * a.y_stride + output;
  const int n = a.n_out - output < kPanelOutputs ? static_cast<int>(a.n_out - output) : kPanelOutputs;
  StoreUpTo(y, Fma(alpha, sum, LoadUpTo(y, n)), n);
}

// For ranks of one block, kVectors groups of 4: the panel stays in registers while the rows pass by.
template <int kVectors>
[[gnu::noinline]] inline void ExpandBlock(const LoraExpandArgs& a, int64_t panel_begin, int64_t panel_end) {
  const uint8_t* w = a.panels + panel_begin * (2 * kPanelOutputs + 64 * kVectors);
  for (int64_t panel = panel_begin; panel < panel_end; ++panel, w += 2 * kPanelOutputs + 64 * kVectors) {
    const F d = LoadBf16(reinterpret_cast<const uint16_t*>(w));
    I codes[kVectors];
    for (int j = 0; j < kVectors; ++j) codes[j] = CentreCodes(LoadI(w + 2 * kPanelOutputs + 64 * j));
    for (int row = 0; row < a.rows; ++row) {
      const int8_t* q = a.q + row * a.q_stride;
      const LoraBlock& block = a.blocks[row * a.block_stride];
      I dot = Set1I(block.offset);
      for (int j = 0; j < kVectors; ++j) dot = DotCodes(dot, codes[j], Broadcast4Bytes(q + 4 * j));
      AddScaled(a, row, panel * kPanelOutputs, Fma(ToFloat(dot), Mul(d, Set1(block.scale)), Zero()));
    }
  }
}

// For any rank.
[[gnu::noinline]] inline void ExpandBlocks(const LoraExpandArgs& a, int64_t panel_begin, int64_t panel_end) {
  const int64_t panel_bytes = LoraExpandPanelBytes(a.rank);
  for (int64_t panel = panel_begin; panel < panel_end; ++panel) {
    for (int row = 0; row < a.rows; ++row) {
      const uint8_t* w = a.panels + panel * panel_bytes;
      const int8_t* q = a.q + row * a.q_stride;
      const LoraBlock* block = a.blocks + row * a.block_stride;
      F acc = Zero();
      for (int begin = 0; begin < a.rank; begin += kPanelBlock, ++block) {
        const F d = LoadBf16(reinterpret_cast<const uint16_t*>(w));
        w += 2 * kPanelOutputs;
        I dot = Set1I(block->offset);
        const int end = a.rank - begin < kPanelBlock ? a.rank : begin + kPanelBlock;
        for (int k = begin; k < end; k += 4, w += 64)
          dot = DotCodes(dot, CentreCodes(LoadI(w)), Broadcast4Bytes(q + k));
        acc = Fma(ToFloat(dot), Mul(d, Set1(block->scale)), acc);
      }
      AddScaled(a, row, panel * kPanelOutputs, acc);
    }
  }
}

inline void ExpandLora(const LoraExpandArgs& a, int64_t panel_begin, int64_t panel_end) {
  switch ((a.rank + 3) / 4) {
    case 1:
      return ExpandBlock<1>(a, panel_begin, panel_end);
    case 2:
      return ExpandBlock<2>(a, panel_begin, panel_end);
    case 4:
      return ExpandBlock<4>(a, panel_begin, panel_end);
    case 8:
      return ExpandBlock<8>(a, panel_begin, panel_end);
    default:
      return ExpandBlocks(a, panel_begin, panel_end);
  }
}

}  // namespace coterie::cpu::COTERIE_ISA

#endif  // COTERIE_KERNELS_CPU_ISA_LORA_H_
