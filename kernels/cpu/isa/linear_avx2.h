#ifndef COTERIE_KERNELS_CPU_ISA_LINEAR_AVX2_H_
#define COTERIE_KERNELS_CPU_ISA_LINEAR_AVX2_H_

#include <immintrin.h>

#include "kernels/cpu/isa/linear.h"
#include "kernels/cpu/kernel_table.h"

// Products of quantised weights on AVX2, which has no dot product of bytes but vpmaddubsw: u0·q0 + u1·q1 of
// an unsigned and a signed byte, saturated to 16 bits. Widening each of them to 32 bits triples the work, so
// they are added up in 16 bits for as long as the sum cannot leave them:
//
//   codes below    largest |u0·q0 + u1·q1|   may be added up
//   16             2 · 15 · 128 =  3,840     8 = 30,720: a whole block
//   32             2 · 31 · 128 =  7,936     4 = 31,744
//   64             2 · 63 · 128 = 16,128     2 = 32,256
//   256            more than 16 bits         none: both operands are widened first, for vpmaddwd
//
// All integers are exact, and stay so as floats (below 2^24): the bits are those of linear.h.
namespace coterie::cpu::COTERIE_ISA {

// What the codes of a kind allow.
template <class Format>
struct CodeRange {
  static constexpr int kBias = 0;                        // subtracted when codes are unpacked
  static constexpr int kRun = Format::kNibbles ? 8 : 4;  // products that are added up in 16 bits; 0: none
};
template <>
struct CodeRange<Q6_KPanel> {
  static constexpr int kBias = 96;  // six bits with an offset of 128: 96 to 159
  static constexpr int kRun = 2;
};
template <>
struct CodeRange<Q8_0Panel> {
  static constexpr int kBias = 128;
  static constexpr int kRun = 0;
};
template <class Format>
constexpr bool kWidened = CodeRange<Format>::kRun == 0;

// A block of a panel, unpacked; h: outputs 8 h to 8 h + 7.
template <class Format>
struct UnpackedBlock {
  // Step s: the codes at k = 4s to 4s + 3. Widened: two steps instead, of k = 4s and 4s + 2, and of 4s + 1
  // and 4s + 3.
  __m256i codes[kWidened<Format> ? 16 : 8][2];
  __m256 d[Format::kGroups][2];
  __m256 m[2];
  __m256 sum[Format::kGroups][2];  // of the codes; not of widened ones, which take no zero point
};
// Blocks that are unpacked at a time: half of a first cache of 32 KiB. The rest is for activations and sums.
template <class Format>
constexpr int64_t kChunkBlocks = 16384 / static_cast<int64_t>(sizeof(UnpackedBlock<Format>));
constexpr int kChunkTileRows = 4;
// Rows that share them: their quantised blocks stay in the second cache while panels pass by.
constexpr int64_t kChunkRows = 64;

inline __m256i Load256(const void* p) { return _mm256_loadu_si256(static_cast<const __m256i*>(p)); }
inline __m256i Broadcast32(const void* p) {
  int32_t x;
  std::memcpy(&x, p, 4);
  return _mm256_set1_epi32(x);
}

template <class Format>
inline void UnpackBlock(const uint8_t* w, UnpackedBlock<Format>* to) {
  constexpr int kBias = CodeRange<Format>::kBias;
  constexpr int kGroupSteps = 8 / Format::kGroups;
  for (int h = 0; h < 2; ++h) {
    const uint8_t* codes = Format::Codes(w) + 32 * h;
    if constexpr (kWidened<Format>) {
      const __m256i bias = _mm256_set1_epi16(kBias);
#pragma GCC unroll 8
      for (int s = 0; s < 8; ++s) {
        const __m256i bytes = Load256(codes + 64 * s);
        to->codes[2 * s][h] = _mm256_sub_epi16(_mm256_and_si256(bytes, _mm256_set1_epi16(0xff)), bias);
        to->codes[2 * s + 1][h] = _mm256_sub_epi16(_mm256_srli_epi16(bytes, 8), bias);
      }
    } else {
#pragma GCC unroll 2
      for (int g = 0; g < Format::kGroups; ++g) {
        __m256i sum = _mm256_setzero_si256();  // bytewise: at most 8 · 31, or 4 · 63
#pragma GCC unroll 8
        for (int s = g * kGroupSteps; s < (g + 1) * kGroupSteps; ++s) {
          __m256i bytes = Load256(codes + 64 * (Format::kNibbles ? s % 4 : s));
          if constexpr (Format::kNibbles) {
            bytes = _mm256_and_si256(s < 4 ? bytes : _mm256_srli_epi16(bytes, 4), _mm256_set1_epi8(0x0f));
          } else {
            bytes = _mm256_sub_epi8(bytes, _mm256_set1_epi8(kBias));
          }
          to->codes[s][h] = bytes;
          sum = _mm256_add_epi8(sum, bytes);
        }
        const __m256i pairs = _mm256_maddubs_epi16(sum, _mm256_set1_epi8(1));
        to->sum[g][h] = _mm256_cvtepi32_ps(_mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
      }
    }
  }
  for (int g = 0; g < Format::kGroups; ++g) {
    const F d = Format::Scale(w, g);
    to->d[g][0] = d.lo;
    to->d[g][1] = d.hi;
  }
  if constexpr (Format::kHasMin) {
    const F m = Format::Min(w);
    to->m[0] = m.lo;
    to->m[1] = m.hi;
  }
}

// q + zero of a block in 16 bits, in the order of widened codes: pair s of `even` holds k = 4s and 4s + 2,
// that of `odd` 4s + 1 and 4s + 3.
struct WidenedActivations {
  __m256i even, odd;
};
inline WidenedActivations Widen(const QuantisedBlock& x) {
  const __m256i q = Load256(x.q);
  const __m256i zero = _mm256_set1_epi16(static_cast<int16_t>(x.zero));
  return {_mm256_add_epi16(_mm256_srai_epi16(_mm256_slli_epi16(q, 8), 8), zero),
          _mm256_add_epi16(_mm256_srai_epi16(q, 8), zero)};
}

// gcc 12 would do all multiplications of a block first and keep their results on the stack. An empty
// statement that may change a sum, in an order that it must keep, holds it to the order written; one that may
// change memory makes it leave in memory what is there.
inline void Hold(__m256i* sum) { asm volatile("" : "+x"(*sum)); }
inline void HoldMemory() { asm volatile("" ::: "memory"); }

// The sums of R rows [R][16] over n blocks, added to those at `sums`. rows[r]: the first block of row r.
//
// 16 registers: 2 R for integer sums, 2 for codes, 1 for activations, 2 for products. Float sums, which are
// needed once per block, stay in the first cache.
template <class Format, int R>
[[gnu::noinline]] void ChunkTile(const UnpackedBlock<Format>* w, int64_t n, const QuantisedBlock* const* rows,
                                 Ahead ahead, float* sums) {
  constexpr int kGroupSteps = 8 / Format::kGroups;
  constexpr int kRun = CodeRange<Format>::kRun;
  constexpr int kSteps = kWidened<Format> ? 16 : kGroupSteps;
  constexpr int kOffset = Format::kOffset - CodeRange<Format>::kBias;
  const __m256i ones = _mm256_set1_epi16(1);
  const QuantisedBlock* x[R];
  for (int r = 0; r < R; ++r) x[r] = rows[r];
  WidenedActivations widened[R][kWidened<Format> ? kChunkBlocks<Format> : 1];
  if constexpr (kWidened<Format>) {
    for (int r = 0; r < R; ++r) {
      for (int64_t b = 0; b < n; ++b) widened[r][b] = Widen(x[r][b]);
    }
  }
  for (int64_t b = 0; b < n; ++b, ++w) {
    for (int64_t line = 0; line < ahead.lines; ++line, ahead.at += 64) Prefetch(ahead.at);
#pragma GCC unroll 2
    for (int g = 0; g < Format::kGroups; ++g) {
      __m256i run[R][2];    // the sums of this run in 16 bits; widened: of the block
      __m256i first[R][2];  // those of the first of two runs in 32 bits
#pragma GCC unroll 16
      for (int i = 0; i < kSteps; ++i) {
        const __m256i w0 = w->codes[g * kSteps + i][0];
        const __m256i w1 = w->codes[g * kSteps + i][1];
#pragma GCC unroll 8
        for (int r = 0; r < R; ++r) {
          if constexpr (kWidened<Format>) {
            const __m256i& pairs = i % 2 == 0 ? widened[r][b].even : widened[r][b].odd;
            const __m256i q = Broadcast32(reinterpret_cast<const char*>(&pairs) + 4 * (i / 2));
            const __m256i p0 = _mm256_madd_epi16(w0, q);
            const __m256i p1 = _mm256_madd_epi16(w1, q);
            run[r][0] = i == 0 ? p0 : _mm256_add_epi32(run[r][0], p0);
            run[r][1] = i == 0 ? p1 : _mm256_add_epi32(run[r][1], p1);
          } else {
            const __m256i q = Broadcast32(x[r][b].q + 4 * (g * kSteps + i));
            const __m256i p0 = _mm256_maddubs_epi16(w0, q);
            const __m256i p1 = _mm256_maddubs_epi16(w1, q);
            run[r][0] = i % kRun == 0 ? p0 : _mm256_add_epi16(run[r][0], p0);
            run[r][1] = i % kRun == 0 ? p1 : _mm256_add_epi16(run[r][1], p1);
          }
          Hold(&run[r][0]);
          Hold(&run[r][1]);
        }
        if constexpr (!kWidened<Format> && kRun < kSteps) {
          static_assert(2 * kRun == kSteps);
          if (i + 1 == kRun) {
#pragma GCC unroll 8
            for (int r = 0; r < R; ++r) {
              first[r][0] = _mm256_madd_epi16(run[r][0], ones);
              first[r][1] = _mm256_madd_epi16(run[r][1], ones);
            }
            asm volatile("" : "+m"(first));  // there are no registers for them
          }
        }
      }
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r) {
        const QuantisedBlock& block = x[r][b];
        const __m256 scale = _mm256_set1_ps(block.scale);
        __m256 zero, t;
        __m256i offset;
        if constexpr (!kWidened<Format>) zero = _mm256_cvtepi32_ps(_mm256_set1_epi32(block.zero));
        if constexpr (Format::kHasMin) t = _mm256_set1_ps(block.scaled_sum);
        if constexpr (!kWidened<Format> && kOffset != 0) {
          // The two halves of Σ (q + zero), side by side, of which a group takes one.
          const int first_half = Format::kGroups == 1 || g == 0 ? -kOffset & 0xffff : 0;
          const int second_half = Format::kGroups == 1 || g == 1 ? -kOffset : 0;
          offset = _mm256_madd_epi16(Broadcast32(block.half_sum),
                                     _mm256_set1_epi32(first_half | second_half * 65536));
        }
#pragma GCC unroll 2
        for (int h = 0; h < 2; ++h) {
          __m256i dot = run[r][h];
          if constexpr (!kWidened<Format>) dot = _mm256_madd_epi16(dot, ones);
          if constexpr (!kWidened<Format> && kRun < kSteps) dot = _mm256_add_epi32(dot, first[r][h]);
          if constexpr (!kWidened<Format> && kOffset != 0) dot = _mm256_add_epi32(dot, offset);
          __m256 product = _mm256_cvtepi32_ps(dot);
          if constexpr (!kWidened<Format>) product = _mm256_fmadd_ps(w->sum[g][h], zero, product);  // exact
          float* const to = sums + kPanelOutputs * r + 8 * h;
          __m256 acc = _mm256_loadu_ps(to);
          if constexpr (Format::kHasMin) acc = _mm256_fmadd_ps(w->m[h], t, acc);
          acc = _mm256_fmadd_ps(product, _mm256_mul_ps(w->d[g][h], scale), acc);
          _mm256_storeu_ps(to, acc);
        }
      }
      HoldMemory();
    }
  }
}

// Fewer rows wait for memory: they read it in one steady stream, and gain nothing from codes that are
// unpacked and stored (0.9 of the speed with two rows of 4 bits; a whole step of one row took a quarter
// longer).
template <class Format>
constexpr int64_t kChunkRowsLeast = Format::kNibbles ? 3 : 2;

// Panel by panel, chunk by chunk: codes are unpacked once for all rows. Weights come from memory once, too:
// each tile prefetches its share of the next chunk, so that memory and multipliers work at the same time.
template <class Format>
inline void RunChunks(const LinearArgs& a, int64_t begin, int64_t end) {
  if (a.rows < kChunkRowsLeast<Format>) return RunQuantisedTiles<Format, false>(a, begin, end);
  constexpr int R = kChunkTileRows;
  const int64_t nb = a.n_in / kPanelBlock;
  const int64_t panel_bytes = nb * Format::kBlockBytes;
  const int64_t n_chunks = (nb + kChunkBlocks<Format> - 1) / kChunkBlocks<Format>;
  const int64_t chunk = (nb + n_chunks - 1) / n_chunks;
  UnpackedBlock<Format> unpacked[kChunkBlocks<Format>];
  alignas(64) float sums[kChunkRows][kPanelOutputs];
  for (int64_t row_begin = 0; row_begin < a.rows; row_begin += kChunkRows) {
    const int64_t n_rows = MinOf(kChunkRows, a.rows - row_begin);
    const int64_t tiles = (n_rows + R - 1) / R;
    for (int64_t panel = begin; panel < end; ++panel) {
      for (int64_t r = 0; r < n_rows; ++r) Store(sums[r], Zero());
      const uint8_t* w = a.panels + panel * panel_bytes;
      for (int64_t b = 0; b < nb; b += chunk) {
        const int64_t n = MinOf(chunk, nb - b);
        for (int64_t i = 0; i < n; ++i, w += Format::kBlockBytes) UnpackBlock<Format>(w, unpacked + i);
        const uint8_t* next = w;
        if (b + n == nb && panel + 1 == end) {
          next = a.panels + (row_begin + kChunkRows < a.rows ? begin : a.next_panel) * panel_bytes;
        }
        const uint8_t* const next_end = next + chunk * Format::kBlockBytes;
        Ahead ahead = {next, ((Format::kBlockBytes + 63) / 64 + tiles - 1) / tiles};
        for (int64_t row = 0; row < n_rows; row += R) {
          const QuantisedBlock* rows[R];
          for (int64_t r = 0; r < R; ++r) rows[r] = a.q + MinOf(row_begin + row + r, a.rows - 1) * nb + b;
          WithCount<R>(MinOf(R, n_rows - row),
                       [&](auto count) { ChunkTile<Format, count>(unpacked, n, rows, ahead, sums[row]); });
          ahead.at += ahead.lines * 64 * n;
          if (ahead.at >= next_end) ahead.lines = 0;
        }
      }
      for (int64_t r = 0; r < n_rows; ++r) {
        StoreResult(a, row_begin + r, panel * kPanelOutputs, Load(sums[r]));
      }
    }
  }
}

inline void LinearPanelsAvx2(const LinearArgs& a, bool quantised_x, int64_t begin, int64_t end) {
  if (!quantised_x) return LinearPanels(a, quantised_x, begin, end);
  switch (a.kind) {
    case PanelKind::kQ4_1:
      return RunChunks<Q4_1Panel>(a, begin, end);
    case PanelKind::kQ4_0:
      return RunChunks<Q4_0Panel>(a, begin, end);
    case PanelKind::kQ8_0:
      return RunChunks<Q8_0Panel>(a, begin, end);
    case PanelKind::kQ4F:
      return RunChunks<Q4FPanel>(a, begin, end);
    case PanelKind::kQ8F:
      return RunChunks<Q8FPanel>(a, begin, end);
    case PanelKind::kQ6_K:
      return RunChunks<Q6_KPanel>(a, begin, end);
    default:
      return LinearPanels(a, quantised_x, begin, end);
  }
}

}  // namespace coterie::cpu::COTERIE_ISA

#endif  // COTERIE_KERNELS_CPU_ISA_LINEAR_AVX2_H_
