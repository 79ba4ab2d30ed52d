#ifndef COTERIE_KERNELS_CPU_ISA_LINEAR_H_
#define COTERIE_KERNELS_CPU_ISA_LINEAR_H_

#include "kernels/cpu/isa/panels.h"
#include "kernels/cpu/kernel_table.h"

// y = x · wᵀ in register tiles of R rows x P panels of 16 outputs. Lanes are outputs; every output is one
// chain over ascending K, whatever tile it falls into (docs/numerics.md, "Products").
namespace coterie::cpu::COTERIE_ISA {

constexpr int64_t kRowBlockTiles = 16;

// What a tile prefetches: `lines` cache lines per block of weights, from `at` on.
struct Ahead {
  const uint8_t* at;
  int64_t lines;
};
// Prefetches what the stream at p needs 4 KiB further on (1 KiB was 15 % slower).
inline void PrefetchAhead(const uint8_t* p, int bytes) {
  for (int line = 0; line < bytes; line += 64) Prefetch(p + 4096 + line);
}

inline int64_t MinOf(int64_t a, int64_t b) { return a < b ? a : b; }

// A number known at compile time.
template <int kValue>
struct Count {
  constexpr operator int() const { return kValue; }  // NOLINT(google-explicit-constructor): it is a number
};
// body(Count<i>) for i in [0, kTimes): a loop whose counter may index registers.
template <int kTimes, int kFirst = 0, class Body>
inline void Repeat(const Body& body) {
  if constexpr (kFirst < kTimes) {
    body(Count<kFirst>());
    Repeat<kTimes, kFirst + 1>(body);
  }
}
// body(Count<n>) for 1 <= n <= kMost; nothing for 0.
template <int kMost, class Body>
inline void WithCount(int64_t n, const Body& body) {
  if constexpr (kMost > 0) {
    if (n == kMost) return body(Count<kMost>());
    WithCount<kMost - 1>(n, body);
  }
}

// ---- The epilogue of a product: bias, alpha, accumulation. ----
inline void StoreResult(const LinearArgs& a, int64_t row, int64_t output, F product) {
  const float alpha = a.row_alphas == nullptr ? a.alpha : a.row_alphas[row] * a.alpha;
  if (a.y_rows != nullptr) row = a.y_rows[row];
  float* y = a.y + row * a.y_stride + output;
  const int64_t left = a.n_out - output;
  if (left >= kPanelOutputs) {
    if (a.bias != nullptr) product = Add(product, Load(a.bias + output));
    if (a.accumulate) product = Fma(Set1(alpha), product, Load(y));
    Store(y, product);
  } else {
    const int n = static_cast<int>(left);
    if (a.bias != nullptr) product = Add(product, LoadN(a.bias + output, n));
    if (a.accumulate) product = Fma(Set1(alpha), product, LoadN(y, n));
    StoreN(y, product, n);
  }
}

// ---- int8 activations over quantised weights (fast mode). ----
// Per block Σ u · (q + zero) = Σ u · q + zero · Σ u exactly in int32, less the offset's part; then
// acc = fma(m, scaled_sum, acc) where the format has m, and acc = fma(dot, d · scale, acc).
template <class Format, int R, int P>
[[gnu::noinline, gnu::flatten]] void QuantisedTile(const LinearArgs& a, int64_t row, int64_t panel,
                                                   Ahead ahead) {
  const int64_t nb = a.n_in / kPanelBlock;
  const int64_t panel_bytes = nb * Format::kBlockBytes;
  const uint8_t* w = a.panels + panel * panel_bytes;
  const QuantisedBlock* x[R];
  Repeat<R>([&](auto r) { x[r] = a.q + (row + r) * nb; });
  const I low4 = Set1I(0x0f0f0f0f);

  F acc[P][R];
  Repeat<P * R>([&](auto i) { acc[i / R][i % R] = Zero(); });
  for (int64_t b = 0; b < nb; ++b, w += Format::kBlockBytes) {
    for (int64_t line = 0; line < ahead.lines; ++line, ahead.at += 64) Prefetch(ahead.at);
    const auto codes_at = [&](int p, int j) { return LoadI(Format::Codes(w + p * panel_bytes) + 64 * j); };
    Repeat<Format::kGroups>([&](auto g) {
      I dot[P][R];
      Repeat<R>([&](auto r) {
        const int16_t* s = x[r][b].half_sum;
        const int32_t sum = Format::kGroups == 2 ? s[g] : s[0] + s[1];
        Repeat<P>(
            [&](auto p) { dot[p][r] = Format::kOffset == 0 ? ZeroI() : Set1I(-Format::kOffset * sum); });
      });
      I codes[P];
      const auto add_products = [&](int k) {
        Repeat<R>([&](auto r) {
          const I four = Broadcast4Bytes(x[r][b].q + k);
          Repeat<P>([&](auto p) {
            dot[p][r] =
                Format::kNibbles ? Dot4Nibbles(dot[p][r], codes[p], four) : Dot4(dot[p][r], codes[p], four);
          });
        });
      };
      I sum[P];  // of the codes, bytewise for nibbles (at most 8 · 15)
      if constexpr (Format::kNibbles) {
        Repeat<4>([&](auto j) {
          Repeat<P>([&](auto p) {
            codes[p] = AndI(codes_at(p, j), low4);
            sum[p] = j == 0 ? codes[p] : AddBytes(sum[p], codes[p]);
            if constexpr (P > 1) Pin(&sum[p]);  // one panel leaves registers enough, and was 15 % slower so
          });
          add_products(4 * j);
          Repeat<P>([&](auto p) {
            codes[p] = AndI(ShiftRight<4>(codes_at(p, j)), low4);
            sum[p] = AddBytes(sum[p], codes[p]);
            if constexpr (P > 1) Pin(&sum[p]);
          });
          add_products(16 + 4 * j);
        });
        Repeat<R>([&](auto r) {
          const I zero = Broadcast4Bytes(x[r][b].zeros);
          Repeat<P>([&](auto p) { dot[p][r] = Dot4Nibbles(dot[p][r], sum[p], zero); });
        });
      } else {
        constexpr int kSteps = 8 / Format::kGroups;
        Repeat<kSteps>([&](auto i) {
          const int j = g * kSteps + i;
          Repeat<P>([&](auto p) {
            codes[p] = codes_at(p, j);
            sum[p] = Dot4(i == 0 ? ZeroI() : sum[p], codes[p], Set1I(0x01010101));
          });
          add_products(4 * j);
        });
        Repeat<R>([&](auto r) {
          const I zero = Set1I(x[r][b].zero);
          Repeat<P>([&](auto p) { dot[p][r] = AddProduct16(dot[p][r], sum[p], zero); });
        });
      }
      if constexpr (Format::kHasMin) {
        Repeat<P>([&](auto p) {
          const F m = Format::Min(w + p * panel_bytes);
          Repeat<R>([&](auto r) { acc[p][r] = Fma(m, Set1(x[r][b].scaled_sum), acc[p][r]); });
        });
      }
      Repeat<P>([&](auto p) {
        const F d = Format::Scale(w + p * panel_bytes, g);
        Repeat<R>(
            [&](auto r) { acc[p][r] = Fma(ToFloat(dot[p][r]), Mul(d, Set1(x[r][b].scale)), acc[p][r]); });
      });
    });
  }
  float sums[P * R][kPanelOutputs];
  Repeat<P * R>([&](auto i) { Store(sums[i], acc[i / R][i % R]); });
  for (int i = 0; i < P * R; ++i) StoreResult(a, row + i % R, (panel + i / R) * kPanelOutputs, Load(sums[i]));
}

// ---- float32 activations over quantised weights (exact mode). ----
// w = fma(d, u - offset, m), then the chain.
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

// The two kinds of float tiles, as RunTiles takes them.
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

// A panel stays in the first cache while the tiles of a row block read it; the rows of the block stay in the
// second cache while panels change.
template <class Tiles, int R>
inline void RunTiles(const LinearArgs& a, int64_t panel_begin, int64_t panel_end) {
  constexpr int64_t kRowBlock = kRowBlockTiles * R;
  for (int64_t block = 0; block < a.rows; block += kRowBlock) {
    const int64_t row_end = MinOf(block + kRowBlock, a.rows);
    for (int64_t panel = panel_begin; panel < panel_end; ++panel) {
      int64_t row = block;
      for (; row + R <= row_end; row += R) Tiles::template Tile<R>(a, row, panel);
      WithCount<R - 1>(row_end - row, [&](auto rows) { Tiles::template Tile<rows>(a, row, panel); });
    }
  }
}

// Rows [row, row_end) of P panels, in tiles of R rows. Weights come from memory once: each tile prefetches
// its share of the panels at `next_panel`, so that memory and multipliers work at the same time.
template <class Format, int R, int P>
inline void RunQuantisedPanels(const LinearArgs& a, int64_t row, int64_t row_end, int64_t panel,
                               int64_t next_panel) {
  const int64_t nb = a.n_in / kPanelBlock;
  const uint8_t* const next = a.panels + next_panel * nb * Format::kBlockBytes;
  const int64_t lines = P * ((Format::kBlockBytes + 63) / 64);  // of a block
  const int64_t tiles = (row_end - row + R - 1) / R;
  Ahead ahead = {next, (lines + tiles - 1) / tiles};
  if (tiles == 1) ahead.at = a.panels + panel * nb * Format::kBlockBytes + 4096;  // one stream, 4 KiB ahead
  for (; row < row_end; row += R) {
    WithCount<R>(MinOf(R, row_end - row),
                 [&](auto rows) { QuantisedTile<Format, rows, P>(a, row, panel, ahead); });
    ahead.at += ahead.lines * 64 * nb;
    if (ahead.at >= next + P * nb * Format::kBlockBytes) ahead.lines = 0;
  }
}

// With few rows, goes panel by panel: each thread reads one contiguous stream (two or three side by side were
// up to 60 % slower). With many rows, takes several panels at once: a tile of one panel spends as long on
// loading activations as on multiplying, and a tile of several panels loads each activation once for all of
// them.
template <class Format, bool kWide>
inline void RunQuantisedTiles(const LinearArgs& a, int64_t begin, int64_t end) {
  constexpr int R = kWide ? kWideTileRows : kQuantisedTileRows;
  constexpr int P = kWide ? kWideTilePanels : 1;
  constexpr int64_t kRowBlock = kRowBlockTiles * kQuantisedTileRows;
  for (int64_t row = 0; row < a.rows; row += kRowBlock) {
    const int64_t row_end = MinOf(row + kRowBlock, a.rows);
    const auto after = [&](int64_t panel) {
      return panel < end ? panel : row_end < a.rows ? begin : a.next_panel;
    };
    int64_t panel = begin;
    for (; panel + P <= end; panel += P) {
      RunQuantisedPanels<Format, R, P>(a, row, row_end, panel, after(panel + P));
    }
    for (; panel < end; ++panel) {
      RunQuantisedPanels<Format, kQuantisedTileRows, 1>(a, row, row_end, panel, after(panel + 1));
    }
  }
}

template <class Format>
inline void RunQuantisedFormat(const LinearArgs& a, bool quantised_x, int64_t begin, int64_t end) {
  if (!quantised_x) {
    RunTiles<Dequantised<Format>, kFloatTileRows>(a, begin, end);
  } else if (kWideTilePanels == 1 || a.rows < kWideRows) {
    RunQuantisedTiles<Format, false>(a, begin, end);
  } else {
    RunQuantisedTiles<Format, true>(a, begin, end);
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
