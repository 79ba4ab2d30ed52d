#ifndef COTERIE_KERNELS_CPU_ISA_ATTENTION_H_
#define COTERIE_KERNELS_CPU_ISA_ATTENTION_H_

#include "kernels/cpu/isa/attention_bf16.h"
#include "kernels/cpu/isa/rows.h"
#include "kernels/cpu/kernel_table.h"

// Attention of a few query vectors over one KV head. Keys come in segments of 64 at absolute positions; each
// segment gives (max m, sum l, weighted values o) from nothing but its own keys, and segments are folded
// together from left to right. So a query's result depends on its position and its keys alone: not on how the
// prompt was cut, nor on which queries share the pass (docs/numerics.md, "Attention").
namespace coterie::cpu::COTERIE_ISA {

template <KvType kType>
inline F LoadKv(const uint8_t* p, int64_t index) {
  if constexpr (kType == KvType::kF32) {
    return Load(reinterpret_cast<const float*>(p) + index);
  } else {
    return LoadF16(reinterpret_cast<const uint16_t*>(p) + index);
  }
}

// scores[r][16 · b + lane] = scale · Σ_d q[r][d] · k[b][d][lane], d ascending. Lanes are keys. Those that are
// not attended may hold anything: they are masked later.
template <KvType kType, int R, int B>
[[gnu::noinline]] void ScoreTile(const AttendArgs& a, int row, const uint8_t* const* k, int block,
                                 float scores[][kAttentionSegment]) {
  F acc[R][B];
  for (int r = 0; r < R; ++r) {
    for (int b = 0; b < B; ++b) acc[r][b] = Zero();
  }
  for (int d = 0; d < a.head_dim; ++d) {
    F key[B];
    for (int b = 0; b < B; ++b) key[b] = LoadKv<kType>(k[block + b], static_cast<int64_t>(d) * kKeysPerBlock);
    for (int r = 0; r < R; ++r) {
      const F q = Set1(a.q[row + r][d]);
      for (int b = 0; b < B; ++b) acc[r][b] = Fma(q, key[b], acc[r][b]);
    }
  }
  for (int r = 0; r < R; ++r) {
    for (int b = 0; b < B; ++b) {
      Store(&scores[row + r][(block + b) * kKeysPerBlock], Mul(acc[r][b], Set1(a.scale)));
    }
  }
}

template <KvType kType, int R, int B>
inline void ScoreRows(const AttendArgs& a, int row, const uint8_t* const* k, int n_blocks,
                      float scores[][kAttentionSegment]) {
  int block = 0;
  for (; block + B <= n_blocks; block += B) ScoreTile<kType, R, B>(a, row, k, block, scores);
  for (; block < n_blocks; ++block) ScoreTile<kType, R, 1>(a, row, k, block, scores);
}

// o[r][c .. c + 16·V) = Σ p[r][key] · v[key], keys lo .. hi-1 of the segment ascending, folded into out:
// out = first ? o : fma(o, beta, out · alpha).
struct Fold {
  float alpha;
  float beta;
  bool first;
};
template <KvType kType, int R, int V>
[[gnu::noinline]] void ValueTile(const AttendArgs& a, int row, const uint8_t* const* v, int lo, int hi,
                                 int column, const float scores[][kAttentionSegment], const Fold* fold,
                                 float* const* out) {
  F acc[R][V];
  for (int r = 0; r < R; ++r) {
    for (int c = 0; c < V; ++c) acc[r][c] = Zero();
  }
  for (int key = lo; key < hi; ++key) {
    const uint8_t* block = v[key / kKeysPerBlock];
    const int64_t base = static_cast<int64_t>(key % kKeysPerBlock) * a.v_stride + column;
    F value[V];
    for (int c = 0; c < V; ++c) value[c] = LoadKv<kType>(block, base + 16 * c);
    for (int r = 0; r < R; ++r) {
      const F p = Set1(scores[row + r][key]);
      for (int c = 0; c < V; ++c) acc[r][c] = Fma(p, value[c], acc[r][c]);
    }
  }
  for (int r = 0; r < R; ++r) {
    for (int c = 0; c < V; ++c) {
      float* o = out[row + r] + column + 16 * c;
      F result = acc[r][c];
      if (!fold[row + r].first) {
        result = Fma(result, Set1(fold[row + r].beta), Mul(Load(o), Set1(fold[row + r].alpha)));
      }
      Store(o, result);
    }
  }
}

template <KvType kType, int R>
inline void ValueRows(const AttendArgs& a, int row, const uint8_t* const* v, int lo, int hi,
                      const float scores[][kAttentionSegment], const Fold* fold, float* const* out) {
  int column = 0;
  for (; column + 64 <= a.v_stride; column += 64) {
    ValueTile<kType, R, 4>(a, row, v, lo, hi, column, scores, fold, out);
  }
  for (; column < a.v_stride; column += 16) {
    ValueTile<kType, R, 1>(a, row, v, lo, hi, column, scores, fold, out);
  }
}

// The K and V blocks of one segment, up to the last one that holds an attended key. (Ids of blocks outside
// the attended keys may not exist.)
struct SegmentBlocks {
  const uint8_t* k[kSegmentBlocks];
  const uint8_t* v[kSegmentBlocks];
  int end;
};
inline SegmentBlocks FindBlocks(const AttendArgs& a, int start, int first_key, int last_key) {
  SegmentBlocks blocks;
  const int end = last_key < start + kAttentionSegment ? last_key : start + kAttentionSegment;
  blocks.end = (end - start + kKeysPerBlock - 1) / kKeysPerBlock;
  const int first = first_key > start ? (first_key - start) / kKeysPerBlock : 0;
  for (int b = first; b < blocks.end; ++b) {
    const int position = start / kKeysPerBlock + b;
    const int64_t id = a.block_ids == nullptr ? position : a.block_ids[position];
    blocks.k[b] = a.k + id * a.block_bytes;
    blocks.v[b] = a.v + id * a.block_bytes;
  }
  for (int b = 0; b < first; ++b) {  // before the window: scored with the others, then masked
    blocks.k[b] = blocks.k[first];
    blocks.v[b] = blocks.v[first];
  }
  return blocks;
}

template <KvType kType>
inline void ScoreSegment(const AttendArgs& a, const SegmentBlocks& blocks,
                         float scores[][kAttentionSegment]) {
  int row = 0;
  for (; row + 12 <= a.n_rows; row += 12) {
    ScoreRows<kType, 12, kScoreTileBlocks>(a, row, blocks.k, blocks.end, scores);
  }
  for (; row + 6 <= a.n_rows; row += 6) ScoreRows<kType, 6, 2>(a, row, blocks.k, blocks.end, scores);
  for (; row + 3 <= a.n_rows; row += 3) ScoreRows<kType, 3, 4>(a, row, blocks.k, blocks.end, scores);
  for (; row < a.n_rows; ++row) ScoreRows<kType, 1, 4>(a, row, blocks.k, blocks.end, scores);
}

// The online softmax of one row over the segments so far.
struct Softmax {
  float max = 0;
  float sum = 0;
  bool started = false;
};
// Turns the scores of keys [lo, hi), at least one, into weights relative to their maximum, and folds the
// segment into `total`. Returns how its values are to be folded.
inline Fold SoftmaxOfSegment(float* scores, int lo, int hi, Softmax* total) {
  const int first = lo / kKeysPerBlock;
  const int last = (hi + kKeysPerBlock - 1) / kKeysPerBlock;
  F largest = Set1(-__builtin_inff());
  for (int b = first; b < last; ++b) {
    float* s = scores + b * kKeysPerBlock;
    F x = Load(s);
    if (lo > b * kKeysPerBlock || hi < (b + 1) * kKeysPerBlock) {
      x = SelectLanes(ClampTo(lo - b * 16, 0, 16), ClampTo(hi - b * 16, 0, 16), x, Set1(-__builtin_inff()));
      Store(s, x);
    }
    largest = Max(largest, x);
  }
  const float segment_max = ReduceMax(largest);
  F sum = Zero();
  for (int b = first; b < last; ++b) {
    float* s = scores + b * kKeysPerBlock;
    const F p = Exp(Sub(Load(s), Set1(segment_max)));  // e^-inf = +0 for masked keys
    Store(s, p);
    sum = Add(sum, p);
  }
  const float segment_sum = ReduceAdd(sum);
  if (!total->started) {
    *total = {segment_max, segment_sum, true};
    return {0, 1, true};
  }
  const float new_max = total->max > segment_max ? total->max : segment_max;
  alignas(64) float pair[16];
  Store(pair, Exp(SelectLanes(0, 1, Set1(total->max - new_max), Set1(segment_max - new_max))));
  total->sum = __builtin_fmaf(segment_sum, pair[1], total->sum * pair[0]);
  total->max = new_max;
  return {pair[0], pair[1], false};
}

// Folds the weighted values of a segment into `out`. Neighbouring rows that attend the same keys share a
// tile.
template <KvType kType>
inline void ValuesOfSegment(const AttendArgs& a, const SegmentBlocks& blocks, const int* lo, const int* hi,
                            const float scores[][kAttentionSegment], const Fold* fold, float* const* out) {
  int n = 1;
  for (int row = 0; row < a.n_rows; row += n) {
    n = 1;
    if (lo[row] >= hi[row]) continue;
    while (n < 4 && row + n < a.n_rows && lo[row + n] == lo[row] && hi[row + n] == hi[row]) ++n;
    switch (n) {
      case 4:
        ValueRows<kType, 4>(a, row, blocks.v, lo[row], hi[row], scores, fold, out);
        break;
      case 3:
        ValueRows<kType, 3>(a, row, blocks.v, lo[row], hi[row], scores, fold, out);
        break;
      case 2:
        ValueRows<kType, 2>(a, row, blocks.v, lo[row], hi[row], scores, fold, out);
        break;
      default:
        ValueRows<kType, 1>(a, row, blocks.v, lo[row], hi[row], scores, fold, out);
    }
  }
}

template <KvType kType>
inline void AttendTyped(const AttendArgs& a) {
  // scores: 48 rows x 64 keys x 4 B = 12 KiB; outputs: 48 rows x 256 x 4 B = 48 KiB.
  alignas(64) float scores[kAttentionRows][kAttentionSegment];
  alignas(64) float output[kAttentionRows][kMaxHeadDim];
  float* out[kAttentionRows];
  Softmax softmax[kAttentionRows];
  int first_key = a.lo[0];
  int last_key = a.hi[0];
  for (int r = 0; r < a.n_rows; ++r) {
    out[r] = output[r];
    if (a.lo[r] < first_key) first_key = a.lo[r];
    if (a.hi[r] > last_key) last_key = a.hi[r];
  }
  for (int start = first_key / kAttentionSegment * kAttentionSegment; start < last_key;
       start += kAttentionSegment) {
    const SegmentBlocks blocks = FindBlocks(a, start, first_key, last_key);
    ScoreSegment<kType>(a, blocks, scores);
    Fold fold[kAttentionRows];
    int lo[kAttentionRows];
    int hi[kAttentionRows];
    for (int r = 0; r < a.n_rows; ++r) {
      lo[r] = ClampTo(a.lo[r] - start, 0, kAttentionSegment);
      hi[r] = ClampTo(a.hi[r] - start, 0, kAttentionSegment);
      if (lo[r] < hi[r]) fold[r] = SoftmaxOfSegment(scores[r], lo[r], hi[r], &softmax[r]);
    }
    ValuesOfSegment<kType>(a, blocks, lo, hi, scores, fold, out);
  }
  for (int r = 0; r < a.n_rows; ++r) {
    const F inverse = Set1(1.0f / softmax[r].sum);
    ForVectors(a.head_dim,
               [&](int64_t i, int n) { StoreUpTo(a.out[r] + i, Mul(Load(out[r] + i), inverse), n); });
  }
}

inline void Attend(const AttendArgs& a) {
  switch (a.type) {
    case KvType::kF32:
      return AttendTyped<KvType::kF32>(a);
    case KvType::kF16:
      return AttendTyped<KvType::kF16>(a);
    case KvType::kBF16:
      return AttendPairs(a);
  }
}

}  // namespace coterie::cpu::COTERIE_ISA

#endif  // COTERIE_KERNELS_CPU_ISA_ATTENTION_H_
