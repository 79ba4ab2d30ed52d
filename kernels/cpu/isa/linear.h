#ifndef COTERIE_KERNELS_CPU_ISA_LINEAR_H_
#define COTERIE_KERNELS_CPU_ISA_LINEAR_H_

#include "kernels/cpu/isa/panels.h"
#include "kernels/cpu/kernel_table.h"

// y = x · wᵀ in register tiles of R rows x P panels of 16 outputs. Lanes are outputs; every output is one
// chain over ascending K, whatever tile it falls into (docs/numerics.md, "Products").
namespace coterie::cpu::COTERIE_ISA {

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
template <class Format, int R, int P>
[[gnu::noinline]] void QuantisedTile(const LinearArgs& a, int64_t row, int64_t panel) {
  const int64_t nb = a.n_in / kPanelBlock;
  const int64_t panel_bytes = nb * Format::kBlockBytes;
  const uint8_t* w = a.panels + panel * panel_bytes;
  const int8_t* q = a.q.q + row * a.n_in;
  const QuantisedBlock* blocks = a.q.blocks + row * nb;
  const I low4 = Set1I(0x0f0f0f0f);

  F acc[R][P];
  for (int r = 0; r < R; ++r) {
    for (int p = 0; p < P; ++p) acc[r][p] = Zero();
  }
  for (int64_t b = 0; b < nb; ++b, w += Format::kBlockBytes, q += kPanelBlock, ++blocks) {
    if constexpr (P == 1) {
      // One stream through memory: fetch 4 KiB ahead (1,024 B ahead was 15 % slower, separate streams 30-50
      // %).
      for (int line = 0; line < Format::kBlockBytes; line += 64) Prefetch(w + 4096 + line);
    }
    for (int g = 0; g < Format::kGroups; ++g) {
      I dot[R][P];
      for (int r = 0; r < R; ++r) {
        for (int p = 0; p < P; ++p) {
          if constexpr (Format::kOffset == 0) {
            dot[r][p] = ZeroI();
          } else {
            const int16_t* s = blocks[r * nb].half_sum;
            const int32_t sum = Format::kGroups == 2 ? s[g] : s[0] + s[1];
            dot[r][p] = Set1I(-Format::kOffset * sum);
          }
        }
      }
      if constexpr (Format::kNibbles) {
        I sum[P];  // bytewise over the 8 vectors: at most 8 · 15
#pragma GCC unroll 4
        for (int j = 0; j < 4; ++j) {
          I low[P], high[P];
          for (int p = 0; p < P; ++p) {
            const I both = LoadI(Format::Codes(w + p * panel_bytes) + 64 * j);
            low[p] = AndI(both, low4);
            high[p] = AndI(ShiftRight<4>(both), low4);
            sum[p] = j == 0 ? AddBytes(low[p], high[p]) : AddBytes(sum[p], AddBytes(low[p], high[p]));
          }
          for (int r = 0; r < R; ++r) {
            const I x_low = Broadcast4Bytes(q + r * a.n_in + 4 * j);
            const I x_high = Broadcast4Bytes(q + r * a.n_in + 16 + 4 * j);
            for (int p = 0; p < P; ++p) {
              dot[r][p] = Dot4Nibbles(dot[r][p], low[p], x_low);
              dot[r][p] = Dot4Nibbles(dot[r][p], high[p], x_high);
            }
          }
        }
        for (int r = 0; r < R; ++r) {
          const I zero = BroadcastByte(&blocks[r * nb].zero);
          for (int p = 0; p < P; ++p) dot[r][p] = Dot4Nibbles(dot[r][p], sum[p], zero);
        }
      } else {
        constexpr int kSteps = 8 / Format::kGroups;
        I sum[P];
        for (int p = 0; p < P; ++p) sum[p] = ZeroI();
        for (int i = 0; i < kSteps; ++i) {
          const int j = g * kSteps + i;
          I codes[P];
          for (int p = 0; p < P; ++p) {
            codes[p] = LoadI(Format::Codes(w + p * panel_bytes) + 64 * j);
            sum[p] = Dot4(sum[p], codes[p], Set1I(0x01010101));
          }
          for (int r = 0; r < R; ++r) {
            const I x4 = Broadcast4Bytes(q + r * a.n_in + 4 * j);
            for (int p = 0; p < P; ++p) dot[r][p] = Dot4(dot[r][p], codes[p], x4);
          }
        }
        for (int r = 0; r < R; ++r) {
          const I zero = Set1I(blocks[r * nb].zero);
          for (int p = 0; p < P; ++p) dot[r][p] = AddProduct16(dot[r][p], sum[p], zero);
        }
      }
      for (int p = 0; p < P; ++p) {
        const F d = Format::Scale(w + p * panel_bytes, g);
        if constexpr (Format::kHasMin) {
          const F m = Format::Min(w + p * panel_bytes);
          for (int r = 0; r < R; ++r) acc[r][p] = Fma(m, Set1(blocks[r * nb].scaled_sum), acc[r][p]);
        }
        for (int r = 0; r < R; ++r) {
          acc[r][p] = Fma(ToFloat(dot[r][p]), Mul(d, Set1(blocks[r * nb].scale)), acc[r][p]);
        }
      }
    }
  }
  for (int r = 0; r < R; ++r) {
    for (int p = 0; p < P; ++p) StoreResult(a, row + r, (panel + p) * kPanelOutputs, acc[r][p]);
  }
}

// ---- float32 activations over quantised weights (exact mode): w = fma(d, u - offset, m), then the chain.
// ----
template <class Format, int R, int P>
[[gnu::noinline]] void DequantisedTile(const LinearArgs& a, int64_t row, int64_t panel) {
  const int64_t nb = a.n_in / kPanelBlock;
  const int64_t panel_bytes = nb * Format::kBlockBytes;
  const uint8_t* w = a.panels + panel * panel_bytes;
  const float* x = a.x + row * a.x_stride;
  constexpr int kCodeMask = Format::kNibbles ? 0x0f : 0xff;

  F acc[R][P];
  for (int r = 0; r < R; ++r) {
    for (int p = 0; p < P; ++p) acc[r][p] = Zero();
  }
  for (int64_t b = 0; b < nb; ++b, w += Format::kBlockBytes, x += kPanelBlock) {
    F d[P], m[P];
    for (int step = 0; step < 8; ++step) {  // four K values per step, ascending
      const int j = Format::kNibbles ? step % 4 : step;
      if (step % (8 / Format::kGroups) == 0) {
        for (int p = 0; p < P; ++p) {
          d[p] = Format::Scale(w + p * panel_bytes, step / (8 / Format::kGroups));
          if constexpr (Format::kHasMin) m[p] = Format::Min(w + p * panel_bytes);
        }
      }
      I codes[P];
      for (int p = 0; p < P; ++p) {
        codes[p] = LoadI(Format::Codes(w + p * panel_bytes) + 64 * j);
        if (Format::kNibbles && step >= 4) codes[p] = ShiftRight<4>(codes[p]);
      }
      for (int i = 0; i < 4; ++i) {
        F weights[P];
        for (int p = 0; p < P; ++p) {
          const F u = ToFloat(AndI(codes[p], Set1I(kCodeMask)));
          codes[p] = ShiftRight<8>(codes[p]);
          if constexpr (Format::kHasMin) {
            weights[p] = Fma(d[p], u, m[p]);
          } else {
            weights[p] = Mul(d[p], Sub(u, Set1(static_cast<float>(Format::kOffset))));
          }
        }
        for (int r = 0; r < R; ++r) {
          const F xk = Set1(x[r * a.x_stride + 4 * step + i]);
          for (int p = 0; p < P; ++p) acc[r][p] = Fma(weights[p], xk, acc[r][p]);
        }
      }
    }
  }
  for (int r = 0; r < R; ++r) {
    for (int p = 0; p < P; ++p) StoreResult(a, row + r, (panel + p) * kPanelOutputs, acc[r][p]);
  }
}

// ---- float32 activations over float weights (both modes). ----
template <class Format, int R, int P>
[[gnu::noinline]] void FloatTile(const LinearArgs& a, int64_t row, int64_t panel) {
  const int64_t panel_bytes = a.n_in * Format::kVectorBytes;
  const uint8_t* w = a.panels + panel * panel_bytes;
  const float* x[R];
  for (int r = 0; r < R; ++r) x[r] = a.x + (a.x_rows == nullptr ? row + r : a.x_rows[row + r]) * a.x_stride;
  F acc[R][P];
  for (int r = 0; r < R; ++r) {
    for (int p = 0; p < P; ++p) acc[r][p] = Zero();
  }
  for (int64_t k = 0; k < a.n_in; ++k, w += Format::kVectorBytes) {
    if constexpr (P == 1) Prefetch(w + 4096);
    F weights[P];
    for (int p = 0; p < P; ++p) weights[p] = Format::Weights(w + p * panel_bytes);
    for (int r = 0; r < R; ++r) {
      const F xk = Set1(x[r][k]);
      for (int p = 0; p < P; ++p) acc[r][p] = Fma(weights[p], xk, acc[r][p]);
    }
  }
  for (int r = 0; r < R; ++r) {
    for (int p = 0; p < P; ++p) StoreResult(a, row + r, (panel + p) * kPanelOutputs, acc[r][p]);
  }
}

// Names the three kinds of tile for RunTiles.
template <class Format>
struct Quantised {
  template <int R, int P>
  static void Tile(const LinearArgs& a, int64_t row, int64_t panel) {
    QuantisedTile<Format, R, P>(a, row, panel);
  }
};
template <class Format>
struct Dequantised {
  template <int R, int P>
  static void Tile(const LinearArgs& a, int64_t row, int64_t panel) {
    DequantisedTile<Format, R, P>(a, row, panel);
  }
};
template <class Format>
struct Float {
  template <int R, int P>
  static void Tile(const LinearArgs& a, int64_t row, int64_t panel) {
    FloatTile<Format, R, P>(a, row, panel);
  }
};

// Rows in tiles of R, then what is left in one smaller tile.
template <class Tiles, int R, int P>
inline void RunLastRows(const LinearArgs& a, int64_t row, int64_t panel) {
  if constexpr (R > 0) {
    if (a.rows - row == R) return Tiles::template Tile<R, P>(a, row, panel);
    RunLastRows<Tiles, R - 1, P>(a, row, panel);
  }
}
template <class Tiles, int R, int P>
inline void RunRows(const LinearArgs& a, int64_t panel) {
  int64_t row = 0;
  for (; row + R <= a.rows; row += R) Tiles::template Tile<R, P>(a, row, panel);
  RunLastRows<Tiles, R - 1, P>(a, row, panel);
}

// Up to four rows the weights come from memory: one panel at a time, one contiguous stream. Beyond, a group
// of panels stays in the cache while the rows pass by.
template <class Tiles, int R>
inline void RunTiles(const LinearArgs& a, int64_t panel_begin, int64_t panel_end) {
  int64_t panel = panel_begin;
  if constexpr (kTilePanels > 1) {
    if (a.rows > 4) {
      for (; panel + kTilePanels <= panel_end; panel += kTilePanels) RunRows<Tiles, R, kTilePanels>(a, panel);
    }
  }
  for (; panel < panel_end; ++panel) RunRows<Tiles, R, 1>(a, panel);
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
