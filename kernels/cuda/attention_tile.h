#ifndef COTERIE_KERNELS_CUDA_ATTENTION_TILE_H_
#define COTERIE_KERNELS_CUDA_ATTENTION_TILE_H_

#include <cmath>
#include <limits>

#include "kernels/cuda/device_code.h"
#include "kernels/cuda/kv_layout.h"
#include "kernels/cuda/step_data.h"

// The steps of attention over one tile of keys: copies through shared memory, products on tensor cores, the
// online softmax. attention.cu puts them together. In fragments of m16n8k16 (device_code_nvcc.h) a lane has
// values of two query vectors, `lane / 4` and `lane / 4 + 8` of the 16 of its warp: [2] below is these two.

namespace coterie::cuda {

constexpr int kAttentionWarps = 4;
constexpr int kAttentionThreads = kAttentionWarps * kWarpLanes;
constexpr float kMinusInfinity = -std::numeric_limits<float>::infinity();

template <int kHeadDim>
struct AttentionShape {
  static constexpr int kKeys = kHeadDim <= 128 ? 64 : 32;  // of a tile: 16 KiB of keys or values
  static constexpr int kDimSteps = kHeadDim / 16;
  static constexpr int kChunks = kKeys / 16;  // of 16 keys: what one product of weights and values takes
  // Values from row to row in shared memory. The 16 bytes more than a row has turn the eight rows that
  // ldmatrix reads at a time to different banks, for all head sizes here.
  static constexpr int kStride = kHeadDim + 8;
  static constexpr int kTileValues = kKeys * kStride;
};

struct AttentionArgs {
  StepData step;
  KvLayout kv;
  int layer, n_heads;
  float scale;  // times log2(e): weights are powers of 2
  int window;   // 0: none
  const float* qkv;
  uint16_t* operand;
  float* partial_values;  // [n_kv_heads, kAttentionPartialRows, head_dim]
  float2* partial_stats;  // [n_kv_heads, kAttentionPartialRows]: maximum and sum
  float4* totals;         // of blocks that cannot hold them in shared memory
  uint32_t* progress;
};

// Keys [begin, end) of a sequence that an item reads, in tiles from `first_tile` on. Keys outside are zeros
// in shared memory, whatever lies in their slots or stands in the block table for them.
struct KeyRange {
  int begin, end, first_tile;
};

// Tiles of keys and values in turn (K of the first tile, V of the first, K of the second …: `half` counts
// them) through kStages buffers, of which all but the one that is being read are being filled.
template <int kHeadDim, int kStages>
class KvRing {
 public:
  using Shape = AttentionShape<kHeadDim>;
  static constexpr int kBytes = kStages * Shape::kTileValues * static_cast<int>(sizeof(uint16_t));

  __device__ KvRing(const AttentionArgs& a, int seat, int kv_head, const KeyRange& keys, uint16_t* shared)
      : shared_(shared),
        blocks_(a.kv.blocks + KvHeadOffset(a.kv, a.layer, 0, 0, kv_head)),
        table_(a.step.block_table + static_cast<int64_t>(seat) * a.step.max_blocks),
        plane_(static_cast<int64_t>(a.kv.n_kv_heads) * kKvBlockTokens * kHeadDim),
        keys_(keys),
        n_halves_(2 * ((keys.end - keys.first_tile + Shape::kKeys - 1) / Shape::kKeys)) {
    for (int half = 0; half < kStages - 1; ++half) Load(half);
  }

  // Waits for a half and for all threads; then its successors are loaded over its predecessor.
  __device__ const uint16_t* Next() {
    WaitCopies<kStages - 2>();
    BlockBarrier();
    Load(half_ + kStages - 1);
    return shared_ + half_++ % kStages * Shape::kTileValues;
  }

 private:
  __device__ void Load(int half) {
    constexpr int kPieces = kHeadDim / 8;  // of 16 bytes
    static_assert(Shape::kKeys * kPieces % kAttentionThreads == 0);
    if (half < n_halves_) {
      uint16_t* const to = shared_ + half % kStages * Shape::kTileValues;
      const uint16_t* const from = blocks_ + half % 2 * plane_;
      const int first = keys_.first_tile + half / 2 * Shape::kKeys;
#pragma unroll
      for (int i = 0; i < Shape::kKeys * kPieces / kAttentionThreads; ++i) {
        const int at = static_cast<int>(threadIdx.x) + i * kAttentionThreads;
        const int row = at / kPieces, column = at % kPieces * 8;
        const int key = first + row;
        const bool valid = key >= keys_.begin && key < keys_.end;
        const int64_t block = valid ? table_[key / kKvBlockTokens] : 0;
        CopyAsync16(to + row * Shape::kStride + column,
                    from + block * 2 * plane_ + key % kKvBlockTokens * kHeadDim + column, valid);
      }
    }
    CommitCopies();  // an empty one, too: waits count them
  }

  uint16_t* const shared_;
  const uint16_t* const blocks_;
  const int32_t* const table_;
  const int64_t plane_;  // values of all heads' keys in a block
  const KeyRange keys_;
  const int n_halves_;
  int half_ = 0;
};

// Where query vector `row` of a tile stands; position -1 for those that are not there.
struct QueryVector {
  int64_t token = 0;
  int head = 0;
  int position = -1;
};
__device__ inline QueryVector VectorOf(const AttentionArgs& a, const AttentionItem& item, int kv_head,
                                       int row) {
  if (row >= item.n_vectors) return {};
  const int group = a.n_heads / a.kv.n_kv_heads, vector = item.first_vector + row;
  const int token = item.first_token + vector / group;
  return {token, kv_head * group + vector % group, a.step.positions[token]};
}

// The A fragments of 16 query vectors, dimensions [16 k, 16 k + 16).
template <int kHeadDim>
__device__ void LoadQuery(const AttentionArgs& a, const QueryVector (&vectors)[2], int k, uint32_t (&q)[4]) {
  const int64_t width = static_cast<int64_t>(a.n_heads + 2 * a.kv.n_kv_heads) * kHeadDim;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const QueryVector& vector = vectors[i % 2];
    const int dim = 16 * k + 8 * (i / 2) + 2 * (LaneId() % 4);
    float2 values = make_float2(0, 0);
    if (vector.position >= 0) {
      values = *reinterpret_cast<const float2*>(a.qkv + vector.token * width + vector.head * kHeadDim + dim);
    }
    q[i] = PackBf16(values.x, values.y);
  }
}

// Adds to scores [16 vectors, 16 keys] the products over 16 dimensions. `keys`: of 16 keys, at the first of
// these dimensions.
template <int kStride>
__device__ void MultiplyKeys(const uint32_t (&q)[4], const uint16_t* keys, float (&low)[4],
                             float (&high)[4]) {
  uint32_t r[4];
  LoadMatrices4(r, keys + (LaneId() / 16 * 8 + LaneId() % 8) * kStride + LaneId() / 8 % 2 * 8);
  const uint32_t first[2] = {r[0], r[1]}, second[2] = {r[2], r[3]};
  MmaBf16(low, q, first);
  MmaBf16(high, q, second);
}

// Adds to results [16 vectors, 16 dimensions] the products of the weights of 16 keys with their values.
template <int kStride>
__device__ void MultiplyValues(const uint32_t (&p)[4], const uint16_t* values, float (&low)[4],
                               float (&high)[4]) {
  uint32_t r[4];
  LoadMatrices4Transposed(r, values + LaneId() % 16 * kStride + LaneId() / 16 * 8);
  const uint32_t first[2] = {r[0], r[1]}, second[2] = {r[2], r[3]};
  MmaBf16(low, p, first);
  MmaBf16(high, p, second);
}

// The keys that a lane's two vectors attend: [first, last].
struct Attended {
  int first[2], last[2];
};

// Scales the scores of 8 keys from `key` on. Those that a vector does not attend become -infinity, whatever
// they were: NaN, too.
__device__ inline void ScaleAndMask(float (&scores)[4], float scale, int key, bool all,
                                    const Attended& attended) {
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    scores[i] *= scale;
    const int k = key + 2 * (LaneId() % 4) + i % 2;
    if (!all && (k < attended.first[i / 2] || k > attended.last[i / 2])) scores[i] = kMinusInfinity;
  }
}

// Over the four lanes that hold a vector.
__device__ inline float QuadMax(float value) {
  value = fmaxf(value, ShuffleXor(value, 1));
  return fmaxf(value, ShuffleXor(value, 2));
}
__device__ inline float QuadSum(float value) {
  value += ShuffleXor(value, 1);
  return value + ShuffleXor(value, 2);
}

// What weights are relative to: the largest score, or 0 where there is none yet.
__device__ inline float ReferenceOf(float max) { return max == kMinusInfinity ? 0.0f : max; }

// Turns the scores of 16 keys into weights: as the A fragment of their product with the values, and this
// lane's share of their sum.
__device__ inline void WeightsOf(float (&low)[4], float (&high)[4], const float (&reference)[2],
                                 uint32_t (&p)[4], float (&sum)[2]) {
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    low[i] = Exp2(low[i] - reference[i / 2]);
    high[i] = Exp2(high[i] - reference[i / 2]);
  }
  sum[0] = (low[0] + low[1]) + (high[0] + high[1]);
  sum[1] = (low[2] + low[3]) + (high[2] + high[3]);
  p[0] = PackBf16(low[0], low[1]);
  p[1] = PackBf16(low[2], low[3]);
  p[2] = PackBf16(high[0], high[1]);
  p[3] = PackBf16(high[2], high[3]);
}

// How results over further keys are added to a vector's: total = total · keep + results · add. Exactly one of
// the two where the other has no keys.
struct Fold {
  float max, keep, add;
};
__device__ inline Fold FoldOf(float total_max, float max) {
  const float both = fmaxf(total_max, max), reference = ReferenceOf(both);
  return {both, Exp2(total_max - reference), Exp2(max - reference)};
}
__device__ inline float Folded(float total, float value, const Fold& fold) {
  return Fma(value, fold.add, total * fold.keep);
}

// A vector's result, two dimensions of it. Adding +0 makes one zero of both: which of them it was may depend
// on keys that the vector does not attend.
__device__ inline uint32_t ResultOf(float low, float high, float inverse) {
  return PackBf16(low * inverse + 0.0f, high * inverse + 0.0f);
}

}  // namespace coterie::cuda

#endif  // COTERIE_KERNELS_CUDA_ATTENTION_TILE_H_
