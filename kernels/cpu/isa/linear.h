#ifndef COTERIE_KERNELS_CPU_ISA_LINEAR_H_
#define COTERIE_KERNELS_CPU_ISA_LINEAR_H_

#include "kernels/cpu/isa/panels.h"
#include "kernels/cpu/kernel_table.h"

// y = x · wᵀ in register tiles of R rows x P panels of 16 outputs. Lanes are outputs; every output is one
// chain over ascending K, whatever tile it falls into (docs/numerics.md, "Products").
namespace coterie::cpu::COTERIE_ISA {

inline int64_t MinOf(int64_t a, int64_t b) { return a < b ? a : b; }

// ---- Quantising activations: blocks of 32, symmetric. ----
inline void QuantiseRows(const float* x, int64_t x_stride, int64_t n_in, int row_begin, int row_end,
                         QuantisedRows to) {
  const int64_t nb = n_in / kPanelBlock;
  for (int row = row_begin; row < row_end; ++row) {
    for (int64_t b = 0; b < nb; ++b) {
      const float* p = x + row * x_stride + b * kPanelBlock;
      const F lo = Load(p);
      const F hi = Load(p + 16);
      const float largest = ReduceMax(Max(Abs(lo), Abs(hi)));
      const bool zero = !(largest >= 0x1p-100f);  // 127 / largest must be finite
      const float scale = zero ? 0.0f : largest / 127.0f;
      const F inverse = Set1(zero ? 0.0f : 127.0f / largest);
      const I q_lo = ToInt(Mul(lo, inverse));
      const I q_hi = ToInt(Mul(hi, inverse));
      StoreInt8(to.q + row * n_in + b * kPanelBlock, q_lo);
      StoreInt8(to.q + row * n_in + b * kPanelBlock + 16, q_hi);
      const int32_t sum_lo = ReduceAddI(q_lo);
      const int32_t sum_hi = ReduceAddI(q_hi);
      to.scale[row * nb + b] = scale;
      to.scaled_sum[row * nb + b] = scale * static_cast<float>(sum_lo + sum_hi);
      to.half_sum[2 * (row * nb + b)] = sum_lo;
      to.half_sum[2 * (row * nb + b) + 1] = sum_hi;
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
template <class Format, int R, int P>
inline void QuantisedTile(const LinearArgs& a, int64_t row, int64_t panel) {
  const int64_t nb = a.n_in / kPanelBlock;
  const int64_t panel_bytes = nb * Format::kBlockBytes;
  const uint8_t* w = a.panels + panel * panel_bytes;
  const int8_t* q = a.q.q + row * a.n_in;
  const float* scale = a.q.scale + row * nb;
  const float* scaled_sum = a.q.scaled_sum + row * nb;
  const int32_t* half_sum = a.q.half_sum + 2 * row * nb;
  const I low4 = Set1I(0x0f0f0f0f);

  F acc[R][P];
  for (int r = 0; r < R; ++r) {
    for (int p = 0; p < P; ++p) acc[r][p] = Zero();
  }
  for (int64_t b = 0; b < nb; ++b, w += Format::kBlockBytes, q += kPanelBlock) {
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
            const int32_t* s = half_sum + 2 * (r * nb + b);
            const int32_t sum = Format::kGroups == 2 ? s[g] : s[0] + s[1];
            dot[r][p] = Set1I(-Format::kOffset * sum);
          }
        }
      }
      if constexpr (Format::kNibbles) {
        for (int j = 0; j < 4; ++j) {
          I low[P], high[P];
          for (int p = 0; p < P; ++p) {
            const I both = LoadI(Format::Codes(w + p * panel_bytes) + 64 * j);
            low[p] = AndI(both, low4);
            high[p] = AndI(ShiftRight<4>(both), low4);
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
      } else {
        constexpr int kSteps = 8 / Format::kGroups;
        for (int i = 0; i < kSteps; ++i) {
          const int j = g * kSteps + i;
          I codes[P];
          for (int p = 0; p < P; ++p) codes[p] = LoadI(Format::Codes(w + p * panel_bytes) + 64 * j);
          for (int r = 0; r < R; ++r) {
            const I x4 = Broadcast4Bytes(q + r * a.n_in + 4 * j);
            for (int p = 0; p < P; ++p) dot[r][p] = Dot4(dot[r][p], codes[p], x4);
          }
        }
      }
      for (int p = 0; p < P; ++p) {
        const F d = Format::Scale(w + p * panel_bytes, g);
        if constexpr (Format::kHasMin) {
          const F m = Format::Min(w + p * panel_bytes);
          for (int r = 0; r < R; ++r) acc[r][p] = Fma(m, Set1(scaled_sum[r * nb + b]), acc[r][p]);
        }
        for (int r = 0; r < R; ++r) {
          acc[r][p] = Fma(ToFloat(dot[r][p]), Mul(d, Set1(scale[r * nb + b])), acc[r][p]);
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
inline void DequantisedTile(const LinearArgs& a, int64_t row, int64_t panel) {
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
inline void FloatTile(const LinearArgs& a, int64_t row, int64_t panel) {
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

template <class Tiles, int P>
inline void RunRows(const LinearArgs& a, int64_t panel) {
  int64_t row = 0;
  for (; row + 4 <= a.rows; row += 4) Tiles::template Tile<4, P>(a, row, panel);
  switch (a.rows - row) {
    case 3:
      return Tiles::template Tile<3, P>(a, row, panel);
    case 2:
      return Tiles::template Tile<2, P>(a, row, panel);
    case 1:
      return Tiles::template Tile<1, P>(a, row, panel);
    default:
      return;
  }
}

// Up to four rows the weights come from memory: one panel at a time, one contiguous stream. Beyond, three
// panels (at most 3 · 48 · 320 B = 46 KB at K = 1536) stay in the first-level cache while the rows pass by.
template <class Tiles>
inline void RunTiles(const LinearArgs& a, int64_t panel_begin, int64_t panel_end) {
  int64_t panel = panel_begin;
  if (a.rows > 4) {
    for (; panel + 3 <= panel_end; panel += 3) RunRows<Tiles, 3>(a, panel);
  }
  for (; panel < panel_end; ++panel) RunRows<Tiles, 1>(a, panel);
}

inline void LinearPanels(const LinearArgs& a, bool quantised_x, int64_t begin, int64_t end) {
  switch (a.kind) {
    case PanelKind::kQ4_1:
      return quantised_x ? RunTiles<Quantised<Q4_1Panel>>(a, begin, end)
                         : RunTiles<Dequantised<Q4_1Panel>>(a, begin, end);
    case PanelKind::kQ4_0:
      return quantised_x ? RunTiles<Quantised<Q4_0Panel>>(a, begin, end)
                         : RunTiles<Dequantised<Q4_0Panel>>(a, begin, end);
    case PanelKind::kQ8_0:
      return quantised_x ? RunTiles<Quantised<Q8_0Panel>>(a, begin, end)
                         : RunTiles<Dequantised<Q8_0Panel>>(a, begin, end);
    case PanelKind::kQ4F:
      return quantised_x ? RunTiles<Quantised<Q4FPanel>>(a, begin, end)
                         : RunTiles<Dequantised<Q4FPanel>>(a, begin, end);
    case PanelKind::kQ8F:
      return quantised_x ? RunTiles<Quantised<Q8FPanel>>(a, begin, end)
                         : RunTiles<Dequantised<Q8FPanel>>(a, begin, end);
    case PanelKind::kQ6_K:
      return quantised_x ? RunTiles<Quantised<Q6_KPanel>>(a, begin, end)
                         : RunTiles<Dequantised<Q6_KPanel>>(a, begin, end);
    case PanelKind::kF32:
      return RunTiles<Float<F32Panel>>(a, begin, end);
    case PanelKind::kBF16:
      return RunTiles<Float<Bf16Panel>>(a, begin, end);
    case PanelKind::kF16:
      return RunTiles<Float<F16Panel>>(a, begin, end);
  }
}

}  // namespace coterie::cpu::COTERIE_ISA

#endif  // COTERIE_KERNELS_CPU_ISA_LINEAR_H_
