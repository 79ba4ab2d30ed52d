#ifndef COTERIE_KERNELS_CPU_ISA_ATTENTION_BF16_H_
#define COTERIE_KERNELS_CPU_ISA_ATTENTION_BF16_H_

#include "kernels/cpu/isa/rows.h"
#include "kernels/cpu/kernel_table.h"

// Attention over a bfloat16 cache by dot products of pairs: twice the multiplications of attention.h per
// instruction. Queries and softmax weights are rounded to bfloat16 as well. Pairs are neighbouring dimensions
// in the scores and neighbouring keys in the values; segments and their folding are those of attention.h
// (docs/numerics.md, "Attention over bfloat16").
namespace coterie::cpu::COTERIE_ISA {

constexpr int kSegmentBlocks = kAttentionSegment / kKeysPerBlock;
constexpr int kBlockPairs = kKeysPerBlock / 2;

inline int ClampTo(int x, int lo, int hi) { return x < lo ? lo : (x > hi ? hi : x); }

// The state of one pass over the keys. 48 rows of 64 dimensions touch about 40 KiB of its 95.
struct PairPass {
  alignas(64) uint16_t q[kAttentionRows][kMaxHeadDim];
  alignas(64) float scores[kAttentionRows][kAttentionSegment];
  alignas(64) uint16_t p[kAttentionRows][kAttentionSegment];  // the segment's softmax weights
  alignas(64) float out[kAttentionRows][kMaxHeadDim];
  alignas(64) float sum[kAttentionRows][16];  // of the weights so far, in lanes
  // Largest score so far and in this segment, and the factors that fold the two together. Processed in
  // vectors of 16 rows.
  alignas(64) float largest[kAttentionRows];
  alignas(64) float segment_largest[kAttentionRows];
  alignas(64) float alpha[kAttentionRows];
  alignas(64) float beta[kAttentionRows];
  // Attended keys of this segment, [lo, hi); none: lo == hi == 0.
  int lo[kAttentionRows];
  int hi[kAttentionRows];
  const uint8_t* k[kSegmentBlocks];  // blocks of this segment
  const uint8_t* v[kSegmentBlocks];
};
static_assert(kAttentionRows % 16 == 0);

// scores[row + r][16 · (block + b) + lane] = scale · (chain over pairs of q[r] · k[b][pair][lane]). Lanes
// that are not to be attended may hold anything.
template <int R, int B>
[[gnu::noinline]] void PairScoreTile(PairPass& pass, int n_pairs, int row, int block) {
  F acc[R][B];
  for (int r = 0; r < R; ++r) {
    for (int b = 0; b < B; ++b) acc[r][b] = Zero();
  }
  const uint8_t* const* k = pass.k + block;
  for (int64_t pair = 0; pair < n_pairs; ++pair) {
    I key[B];
    for (int b = 0; b < B; ++b) key[b] = LoadI(k[b] + pair * 64);
    for (int r = 0; r < R; ++r) {
      const I q = Broadcast4Bytes(pass.q[row + r] + 2 * pair);
      for (int b = 0; b < B; ++b) acc[r][b] = DotBf16(acc[r][b], key[b], q);
    }
  }
  for (int r = 0; r < R; ++r) {
    for (int b = 0; b < B; ++b) {
      Store(&pass.scores[row + r][(block + b) * kKeysPerBlock], acc[r][b]);
    }
  }
}

// Turns scores into weights p = 2^(score - largest), rounded, 0 for keys that are not attended; returns their
// sum in lanes. Lane l sums keys 2l + 1, 2l, then 32 + 2l + 1, 32 + 2l.
inline F PairWeights(PairPass& pass, int row) {
  const int lo = pass.lo[row];
  const int hi = pass.hi[row];
  const float* scores = pass.scores[row];
  F s[kSegmentBlocks];
  if (lo == 0 && hi == kAttentionSegment) {
    for (int b = 0; b < kSegmentBlocks; ++b) s[b] = Load(scores + b * kKeysPerBlock);
  } else {
    for (int b = 0; b < kSegmentBlocks; ++b) {
      const int first = ClampTo(lo - b * kKeysPerBlock, 0, kKeysPerBlock);
      const int last = ClampTo(hi - b * kKeysPerBlock, 0, kKeysPerBlock);
      s[b] = Set1(-__builtin_inff());
      if (first < last) s[b] = SelectLanes(first, last, Load(scores + b * kKeysPerBlock), s[b]);
    }
  }
  const float largest = ReduceMax(Max(Max(s[0], s[1]), Max(s[2], s[3])));
  pass.segment_largest[row] = largest;
  for (F& score : s) score = Exp2Weight(Sub(score, Set1(largest)));
  const I p0 = RoundToBf16(s[0], s[1]);
  const I p1 = RoundToBf16(s[2], s[3]);
  Store(reinterpret_cast<float*>(pass.p[row]), AsFloat(p0));
  Store(reinterpret_cast<float*>(pass.p[row] + 32), AsFloat(p1));
  const I ones = Set1I(0x3f803f80);
  return DotBf16(DotBf16(Zero(), p0, ones), p1, ones);
}

// out[row + r][column ...] = fma(o, beta, out · alpha), where o is the chain over the pairs of keys that the
// row attends. Pairs at the edge, of which not every row attends both keys, are added row by row with the
// value of the other key cleared.
template <int R, int V>
[[gnu::noinline]] void PairValueTile(PairPass& pass, int v_stride, int row, int column) {
  F acc[R][V];
  for (int r = 0; r < R; ++r) {
    for (int c = 0; c < V; ++c) acc[r][c] = Zero();
  }
  int first = kAttentionSegment, last = 0;          // keys attended by any row
  int all_first = 0, all_last = kAttentionSegment;  // by all rows
  for (int r = 0; r < R; ++r) {
    const int lo = pass.lo[row + r];
    const int hi = pass.hi[row + r];
    first = lo < first ? lo : first;
    last = hi > last ? hi : last;
    all_first = lo > all_first ? lo : all_first;
    all_last = hi < all_last ? hi : all_last;
  }
  const int end = (last + 1) / 2;
  const int common = (all_first + 1) / 2;
  const int common_end = all_last / 2;

  const auto value_at = [&](int pair, int c) {
    return LoadI(pass.v[pair / kBlockPairs] +
                 4 * (static_cast<int64_t>(pair % kBlockPairs) * v_stride + column + 16 * c));
  };
  const auto edge = [&](int pair) {
    for (int r = 0; r < R; ++r) {
      const int lo = pass.lo[row + r];
      const int hi = pass.hi[row + r];
      if (2 * pair + 1 < lo || 2 * pair >= hi) continue;
      const uint32_t keep = (2 * pair < lo ? 0 : 0xffffu) | (2 * pair + 1 >= hi ? 0 : 0xffff0000u);
      const I mask = Set1I(static_cast<int32_t>(keep));
      const I p = Broadcast4Bytes(pass.p[row + r] + 2 * pair);
      for (int c = 0; c < V; ++c) acc[r][c] = DotBf16(acc[r][c], AndI(value_at(pair, c), mask), p);
    }
  };
  int pair = first / 2;
  for (; pair < common && pair < end; ++pair) edge(pair);
  while (pair < common_end) {
    const int block_end = (pair / kBlockPairs + 1) * kBlockPairs;
    const int stop = block_end < common_end ? block_end : common_end;
    const uint8_t* v =
        pass.v[pair / kBlockPairs] + 4 * (static_cast<int64_t>(pair % kBlockPairs) * v_stride + column);
    const uint16_t* p = pass.p[row] + 2 * pair;
    for (; pair < stop; ++pair, v += 4 * static_cast<int64_t>(v_stride), p += 2) {
      I value[V];
      for (int c = 0; c < V; ++c) value[c] = LoadI(v + 64 * c);
      for (int r = 0; r < R; ++r) {
        const I weight = Broadcast4Bytes(p + r * kAttentionSegment);
        for (int c = 0; c < V; ++c) acc[r][c] = DotBf16(acc[r][c], value[c], weight);
      }
    }
  }
  for (; pair < end; ++pair) edge(pair);

  for (int r = 0; r < R; ++r) {
    const F alpha = Set1(pass.alpha[row + r]);
    const F beta = Set1(pass.beta[row + r]);
    for (int c = 0; c < V; ++c) {
      float* o = pass.out[row + r] + column + 16 * c;
      Store(o, Fma(acc[r][c], beta, Mul(Load(o), alpha)));
    }
  }
}

// A tile of n rows, 1 <= n <= R.
template <int R>
inline void PairScores(PairPass& pass, int n_pairs, int row, int n) {
  if constexpr (R > 1) {
    if (n < R) return PairScores<R - 1>(pass, n_pairs, row, n);
  }
  int first = kAttentionSegment, last = 0;
  for (int r = row; r < row + R; ++r) {
    if (pass.hi[r] == 0) continue;
    first = pass.lo[r] < first ? pass.lo[r] : first;
    last = pass.hi[r] > last ? pass.hi[r] : last;
  }
  int block = first / kKeysPerBlock;
  const int end = (last + kKeysPerBlock - 1) / kKeysPerBlock;
  if constexpr (kPairTileVectors >= 4) {
    for (; block + 4 <= end; block += 4) PairScoreTile<R, 4>(pass, n_pairs, row, block);
  }
  if constexpr (kPairTileVectors >= 2) {
    for (; block + 2 <= end; block += 2) PairScoreTile<R, 2>(pass, n_pairs, row, block);
  }
  for (; block < end; ++block) PairScoreTile<R, 1>(pass, n_pairs, row, block);
}

template <int R>
inline void PairValues(PairPass& pass, int v_stride, int row, int n) {
  if constexpr (R > 1) {
    if (n < R) return PairValues<R - 1>(pass, v_stride, row, n);
  }
  int column = 0;
  if constexpr (kPairTileVectors >= 4) {
    for (; column + 64 <= v_stride; column += 64) PairValueTile<R, 4>(pass, v_stride, row, column);
  }
  if constexpr (kPairTileVectors >= 2) {
    for (; column + 32 <= v_stride; column += 32) PairValueTile<R, 2>(pass, v_stride, row, column);
  }
  for (; column < v_stride; column += 16) PairValueTile<R, 1>(pass, v_stride, row, column);
}

inline void AttendPairs(const AttendArgs& a) {
  PairPass pass;
  const int n_pairs = (a.head_dim + 1) / 2;
  const F q_scale = Set1(a.scale * kLog2E);  // scores come out as powers of two
  int first_key = a.lo[0];
  int last_key = a.hi[0];
  for (int r = 0; r < a.n_rows; ++r) {
    // Lanes beyond an odd head_dim become zero, as they are in K.
    ForVectors(a.head_dim,
               [&](int64_t i, int n) { RoundToBf16(pass.q[r] + i, Mul(LoadUpTo(a.q[r] + i, n), q_scale)); });
    for (int c = 0; c < a.v_stride; c += 16) Store(pass.out[r] + c, Zero());
    Store(pass.sum[r], Zero());
    first_key = a.lo[r] < first_key ? a.lo[r] : first_key;
    last_key = a.hi[r] > last_key ? a.hi[r] : last_key;
  }
  // Below any score, but not -inf, whose difference with itself is NaN. So the first segment gets beta = 1,
  // and its alpha multiplies sums and outputs that are zero.
  for (int r = 0; r < kAttentionRows; ++r) pass.largest[r] = -3.4e38f;

  for (int start = first_key / kAttentionSegment * kAttentionSegment; start < last_key;
       start += kAttentionSegment) {
    // Block ids outside the attended keys may not exist.
    for (int b = 0; b < kSegmentBlocks; ++b) {
      const int key = start + b * kKeysPerBlock;
      if (key + kKeysPerBlock <= first_key || key >= last_key) continue;
      const int64_t id = a.block_ids == nullptr ? key / kKeysPerBlock : a.block_ids[key / kKeysPerBlock];
      pass.k[b] = a.k + id * a.block_bytes;
      pass.v[b] = a.v + id * a.block_bytes;
    }
    for (int r = 0; r < kAttentionRows; ++r) {
      const bool attends = r < a.n_rows && a.lo[r] < start + kAttentionSegment && a.hi[r] > start;
      pass.lo[r] = attends && a.lo[r] > start ? a.lo[r] - start : 0;
      pass.hi[r] = !attends ? 0 : a.hi[r] < start + kAttentionSegment ? a.hi[r] - start : kAttentionSegment;
      pass.segment_largest[r] = -__builtin_inff();
    }
    F segment_sum[kAttentionRows];
    for (int row = 0; row < a.n_rows; row += kPairTileRows) {
      const int n = a.n_rows - row < kPairTileRows ? a.n_rows - row : kPairTileRows;
      PairScores<kPairTileRows>(pass, n_pairs, row, n);
      for (int r = row; r < row + n; ++r) segment_sum[r] = pass.hi[r] > 0 ? PairWeights(pass, r) : Zero();
    }
    for (int r = 0; r < a.n_rows; r += 16) {
      const F before = Load(pass.largest + r);
      const F segment = Load(pass.segment_largest + r);
      const F largest = Max(before, segment);
      Store(pass.alpha + r, Exp2Weight(Sub(before, largest)));
      Store(pass.beta + r, Exp2Weight(Sub(segment, largest)));
      Store(pass.largest + r, largest);
    }
    for (int r = 0; r < a.n_rows; ++r) {
      Store(pass.sum[r],
            Fma(segment_sum[r], Set1(pass.beta[r]), Mul(Load(pass.sum[r]), Set1(pass.alpha[r]))));
    }
    for (int row = 0; row < a.n_rows; row += kPairTileRows) {
      const int n = a.n_rows - row < kPairTileRows ? a.n_rows - row : kPairTileRows;
      PairValues<kPairTileRows>(pass, a.v_stride, row, n);
    }
  }
  for (int r = 0; r < a.n_rows; ++r) {
    const F inverse = Set1(1.0f / ReduceAdd(Load(pass.sum[r])));
    ForVectors(a.head_dim,
               [&](int64_t i, int n) { StoreUpTo(a.out[r] + i, Mul(Load(pass.out[r] + i), inverse), n); });
  }
}

}  // namespace coterie::cpu::COTERIE_ISA

#endif  // COTERIE_KERNELS_CPU_ISA_ATTENTION_BF16_H_
