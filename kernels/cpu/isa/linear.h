#ifndef COTERIE_KERNELS_CPU_ISA_LINEAR_H_
#define COTERIE_KERNELS_CPU_ISA_LINEAR_H_

#include "kernels/cpu/isa/panels.h"
#include "kernels/cpu/kernel_table.h"

// y = x · wᵀ in register tiles of R rows x one panel of 16 outputs. Lanes are outputs; every output is one
// chain over ascending K, whatever tile it falls into (docs/numerics.md, "Products"). One panel at a time is
// one contiguous stream through memory, and R chains are enough to fill the multipliers: two or three panels
// side by side were 5 % faster at best, from the cache, and up to 60 % slower from memory.
namespace coterie::cpu::COTERIE_ISA {

constexpr int64_t kRowBlockTiles = 16;

// Fetches what the stream at p needs 4 KiB on (1 KiB was 15 % slower).
inline void PrefetchAhead(const uint8_t* p, int bytes) {
  for (int line = 0; line < bytes; line += 64) Prefetch(p + 4096 + line);
}

inline int64_t MinOf(int64_t a, int64_t b) { return a < b ? a : b; }

// ---- Quantising activations: blocks of 32, zero somewhere within the range. ----
inline void QuantiseRows(const float* x, int64_t x_stride, int64_t n_in, int row_begin, int row_end,
                         QuantisedRows to) {
  const int64_t nb = n_in / kPanelBlock;
  for (int row = row_begin; row < row_end; ++row) {
    for (int64_t b = 0; b < nb; ++b) {
      const float* p = x + row * x_stride + b * kPanelBlock;
      int8_t* q = to.q + row * n_in + b * kPanelBlock;
      const F first = Load(p);
      const F second = Load(p + 16);
      const float highest = ReduceMax(Max(Max(first, second), Zero()));
      const float lowest = -ReduceMax(Max(Max(Sub(Zero(), first), Sub(Zero(), second)), Zero()));
      const float range = highest - lowest;
      const bool empty = !(range >= 0x1p-100f);  // 254 / range must be finite
      const float scale = empty ? 0.0f : range / 254.0f;
      const float inverse = empty ? 0.0f : 254.0f / range;
      const I zero = ToInt(Set1((highest + lowest) * 0.5f * inverse));
      // Rounding both may step over the ends by one.
      const I q1 = MaxI(MinI(SubI(ToInt(Mul(first, Set1(inverse))), zero), Set1I(127)), Set1I(-128));
      const I q2 = MaxI(MinI(SubI(ToInt(Mul(second, Set1(inverse))), zero), Set1I(127)), Set1I(-128));
      StoreInt8(q, q1);
      StoreInt8(q + 16, q2);
      QuantisedBlock& block = to.blocks[row * nb + b];
      const int32_t zero_point = FirstLane(zero);
      const int32_t sum1 = ReduceAddI(q1) + 16 * zero_point;
      const int32_t sum2 = ReduceAddI(q2) + 16 * zero_point;
      block.scale = scale;
      block.scaled_sum = scale * static_cast<float>(sum1 + sum2);
      block.half_sum[0] = static_cast<int16_t>(sum1);
      block.half_sum[1] = static_cast<int16_t>(sum2);
      block.zero = zero_point;
    }
  }
}

// ---- What happens to a finished sum. ----
inline void StoreResult(const LinearArgs& a, int64_t row, int64_t output, F product) {
  if (a.y_rows != nullptr) row = a.y_rows[row];
  float* y = a.y + row * a.y_stride + output;
  const int64_t left = a.n_out - output;
  if (left >= kPanelOutputs) {
    if (a.bias != nullptr) product = Add(product, Load(a.bias + output));
    if (a.accumulate) product = Fma(Set1(a.alpha), product, Load(y));
    Store(y, product);
  } else {
    const int n = static_cast<int>(left);
    if (a.bias != nullptr) product = Add(product, LoadN(a.bias + output, n));
    if (a.accumulate) product = Fma(Set1(a.alpha), product, LoadN(y, n));
    StoreN(y, product, n);
  }
}

// ---- int8 activations over quantised weights (fast mode). ----
// Per block Σ u · (q + zero) = Σ u · q + zero · Σ u exactly in int32, less the offset's part; then
// acc = fma(m, scaled_sum, acc) where the format has m, and acc = fma(dot, d · scale, acc).
template <class Format, int R>
[[gnu::noinline]] void QuantisedTile(const LinearArgs& a, int64_t row, int64_t panel) {
  const int64_t nb = a.n_in / kPanelBlock;
  const uint8_t* w = a.panels + panel * nb * Format::kBlockBytes;
  const int8_t* q = a.q.q + row * a.n_in;
  const QuantisedBlock* blocks = a.q.blocks + row * nb;
  const I low4 = Set1I(0x0f0f0f0f);

  F acc[R];
  for (int r = 0; r < R; ++r) acc[r] = Zero();
  for (int64_t b = 0; b < nb; ++b, w += Format::kBlockBytes, q += kPanelBlock, ++blocks) {
    PrefetchAhead(w, Format::kBlockBytes);
    for (int g = 0; g < Format::kGroups; ++g) {
      I dot[R];
      for (int r = 0; r < R; ++r) {
        if constexpr (Format::kOffset == 0) {
          dot[r] = ZeroI();
        } else {
          const int16_t* s = blocks[r * nb].half_sum;
          const int32_t sum = Format::kGroups == 2 ? s[g] : s[0] + s[1];
          dot[r] = Set1I(-Format::kOffset * sum);
        }
      }
      if constexpr (Format::kNibbles) {
        I sum;  // bytewise over the 8 vectors: at most 8 · 15
#pragma GCC unroll 4
        for (int j = 0; j < 4; ++j) {
          const I both = LoadI(Format::Codes(w) + 64 * j);
          const I low = AndI(both, low4);
          const I high = AndI(ShiftRight<4>(both), low4);
          sum = j == 0 ? AddBytes(low, high) : AddBytes(sum, AddBytes(low, high));
          for (int r = 0; r < R; ++r) {
            dot[r] = Dot4Nibbles(dot[r], low, Broadcast4Bytes(q + r * a.n_in + 4 * j));
            dot[r] = Dot4Nibbles(dot[r], high, Broadcast4Bytes(q + r * a.n_in + 16 + 4 * j));
          }
        }
        for (int r = 0; r < R; ++r) dot[r] = Dot4Nibbles(dot[r], sum, BroadcastByte(&blocks[r * nb].zero));
      } else {
        constexpr int kSteps = 8 / Format::kGroups;
        I sum = ZeroI();
        for (int i = 0; i < kSteps; ++i) {
          const int j = g * kSteps + i;
          const I codes = LoadI(Format::Codes(w) + 64 * j);
          sum = Dot4(sum, codes, Set1I(0x01010101));
          for (int r = 0; r < R; ++r) dot[r] = Dot4(dot[r], codes, Broadcast4Bytes(q + r * a.n_in + 4 * j));
        }
        for (int r = 0; r < R; ++r) dot[r] = AddProduct16(dot[r], sum, Set1I(blocks[r * nb].zero));
      }
      const F d = Format::Scale(w, g);
      if constexpr (Format::kHasMin) {
        const F m = Format::Min(w);
        for (int r = 0; r < R; ++r) acc[r] = Fma(m, Set1(blocks[r * nb].scaled_sum), acc[r]);
      }
      for (int r = 0; r < R; ++r) {
        acc[r] = Fma(ToFloat(dot[r]), Mul(d, Set1(blocks[r * nb].scale)), acc[r]);
      }
    }
  }
  for (int r = 0; r < R; ++r) StoreResult(a, row + r, panel * kPanelOutputs, acc[r]);
}

// ---- float32 activations over quantised weights (exact mode): w = fma(d, u - offset, m), then the chain.
// ----
template <class Format, int R>
[[gnu::noinline]] void DequantisedTile(const LinearArgs& a, int64_t row, int64_t panel) {
  const int64_t nb = a.n_in / kPanelBlock;
  const uint8_t* w = a.panels + panel * nb * Format::kBlockBytes;
  const float* x = a.x + row * a.x_stride;
  constexpr int kCodeMask = Format::kNibbles ? 0x0f : 0xff;

  F acc[R];
  for (int r = 0; r < R; ++r) acc[r] = Zero();
  for (int64_t b = 0; b < nb; ++b, w += Format::kBlockBytes, x += kPanelBlock) {
    PrefetchAhead(w, Format::kBlockBytes);
    F d, m;
    for (int step = 0; step < 8; ++step) {  // four K values per step, ascending
      const int j = Format::kNibbles ? step % 4 : step;
      if (step % (8 / Format::kGroups) == 0) {
        d = Format::Scale(w, step / (8 / Format::kGroups));
        if constexpr (Format::kHasMin) m = Format::Min(w);
      }
      I codes = LoadI(Format::Codes(w) + 64 * j);
      if (Format::kNibbles && step >= 4) codes = ShiftRight<4>(codes);
      for (int i = 0; i < 4; ++i) {
        const F u = ToFloat(AndI(codes, Set1I(kCodeMask)));
        codes = ShiftRight<8>(codes);
        F weights;
        if constexpr (Format::kHasMin) {
          weights = Fma(d, u, m);
        } else {
          weights = Mul(d, Sub(u, Set1(static_cast<float>(Format::kOffset))));
        }
        for (int r = 0; r < R; ++r) acc[r] = Fma(weights, Set1(x[r * a.x_stride + 4 * step + i]), acc[r]);
      }
    }
  }
  for (int r = 0; r < R; ++r) StoreResult(a, row + r, panel * kPanelOutputs, acc[r]);
}

// ---- float32 activations over float weights (both modes). ----
template <class Format, int R>
[[gnu::noinline]] void FloatTile(const LinearArgs& a, int64_t row, int64_t panel) {
  const uint8_t* w = a.panels + panel * a.n_in * Format::kVectorBytes;
  const float* x[R];
  for (int r = 0; r < R; ++r) x[r] = a.x + (a.x_rows == nullptr ? row + r : a.x_rows[row + r]) * a.x_stride;
  F acc[R];
  for (int r = 0; r < R; ++r) acc[r] = Zero();
  for (int64_t k = 0; k < a.n_in; ++k, w += Format::kVectorBytes) {
    PrefetchAhead(w, Format::kVectorBytes);
    const F weights = Format::Weights(w);
    for (int r = 0; r < R; ++r) acc[r] = Fma(weights, Set1(x[r][k]), acc[r]);
  }
  for (int r = 0; r < R; ++r) StoreResult(a, row + r, panel * kPanelOutputs, acc[r]);
}

// Names the three kinds of tile for RunTiles.
template <class Format>
struct Quantised {
  template <int R>
  static void Tile(const LinearArgs& a, int64_t row, int64_t panel) {
    QuantisedTile<Format, R>(a, row, panel);
  }
};
template <class Format>
struct Dequantised {
  template <int R>
  static void Tile(const LinearArgs& a, int64_t row, int64_t panel) {
    DequantisedTile<Format, R>(a, row, panel);
  }
};
template <class Format>
struct Float {
  template <int R>
  static void Tile(const LinearArgs& a, int64_t row, int64_t panel) {
    FloatTile<Format, R>(a, row, panel);
  }
};

// Fewer than R rows that are left: one smaller tile.
template <class Tiles, int R>
inline void RunLastRows(const LinearArgs& a, int64_t row, int64_t row_end, int64_t panel) {
  if constexpr (R > 0) {
    if (row_end - row == R) return Tiles::template Tile<R>(a, row, panel);
    RunLastRows<Tiles, R - 1>(a, row, row_end, panel);
  }
}

// A panel stays in the first cache while rows pass by in tiles of R; a block of rows stays in the second
// while panels pass by.
template <class Tiles, int R>
inline void RunTiles(const LinearArgs& a, int64_t panel_begin, int64_t panel_end) {
  constexpr int64_t kRowBlock = kRowBlockTiles * R;
  for (int64_t block = 0; block < a.rows; block += kRowBlock) {
    const int64_t row_end = MinOf(block + kRowBlock, a.rows);
    for (int64_t panel = panel_begin; panel < panel_end; ++panel) {
      int64_t row = block;
      for (; row + R <= row_end; row += R) Tiles::template Tile<R>(a, row, panel);
      RunLastRows<Tiles, R - 1>(a, row, row_end, panel);
    }
  }
}

template <class Format>
inline void RunQuantisedFormat(const LinearArgs& a, bool quantised_x, int64_t begin, int64_t end) {
  if (quantised_x) {
    RunTiles<Quantised<Format>, kQuantisedTileRows>(a, begin, end);
  } else {
    RunTiles<Dequantised<Format>, kFloatTileRows>(a, begin, end);
  }
}

inline void LinearPanels(const LinearArgs& a, bool quantised_x, int64_t begin, int64_t end) {
  switch (a.kind) {
    case PanelKind::kQ4_1:
      return RunQuantisedFormat<Q4_1Panel>(a, quantised_x, begin, end);
    case PanelKind::kQ4_0:
      return RunQuantisedFormat<Q4_0Panel>(a, quantised_x, begin, end);
    case PanelKind::kQ8_0:
      return RunQuantisedFormat<Q8_0Panel>(a, quantised_x, begin, end);
    case PanelKind::kQ4F:
      return RunQuantisedFormat<Q4FPanel>(a, quantised_x, begin, end);
    case PanelKind::kQ8F:
      return RunQuantisedFormat<Q8FPanel>(a, quantised_x, begin, end);
    case PanelKind::kQ6_K:
      return RunQuantisedFormat<Q6_KPanel>(a, quantised_x, begin, end);
    case PanelKind::kF32:
      return RunTiles<Float<F32Panel>, kFloatTileRows>(a, begin, end);
    case PanelKind::kBF16:
      return RunTiles<Float<Bf16Panel>, kFloatTileRows>(a, begin, end);
    case PanelKind::kF16:
      return RunTiles<Float<F16Panel>, kFloatTileRows>(a, begin, end);
  }
}

}  // namespace coterie::cpu::COTERIE_ISA

#endif  // COTERIE_KERNELS_CPU_ISA_LINEAR_H_
