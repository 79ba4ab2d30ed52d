#include <algorithm>
#include <iterator>

#include "common/check.h"
#include "kernels/cuda/attention_tile.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/ops.h"

// Attention of prefill and decode, one design. A work item is a tile of query vectors that share a KV head
// (the heads of a group are rows of the same products, so that a key is read once for all of them), over one
// split of its keys or all of them. Blocks take items in turn until there are none left.
//
// In prefill each of the four warps has 16 vectors and all keys of a tile. In decode there are 16 vectors:
// the warps share a tile's keys for the scores, then its dimensions for the results.
//
// A vector's bits depend on its position and its sequence's keys alone. Tiles of keys lie at fixed positions;
// within a split their results are added up one after the other, splits are folded together in their order
// (FoldOf); each number of a fragment is computed from its own row; keys that a vector does not attend add
// exactly nothing. All of it is the same in both variants, and for a tile that is split over blocks.
namespace coterie::cuda {
namespace {

template <int kHeadDim, bool kDecode>
struct AttentionLayout {
  using Shape = AttentionShape<kHeadDim>;
  // 256 dimensions of results take 128 registers by themselves: queries and totals lie elsewhere.
  static constexpr bool kLarge = kHeadDim > 128;
  // Decode is bound by the bytes under way: 3 blocks of 3 × 17 KiB in 128 dimensions.
  static constexpr int kStages = kDecode && !kLarge ? 4 : 3;
  static constexpr int kBlocksPerProcessor = kDecode && !kLarge ? 3 : 2;
  using Ring = KvRing<kHeadDim, kStages>;
  static constexpr int kGroups =
      kDecode ? (kHeadDim / 16 + 3) / 4 : kHeadDim / 16;  // of 16 dimensions, a warp

  // Between warps.
  struct Exchange {
    uint32_t is_last;
    float maxima[kDecode ? kAttentionWarps : 1][16];
    float2 sums[kDecode ? kAttentionWarps : 1][kWarpLanes];
    uint4 weights[kDecode ? kAttentionWarps : 1][kWarpLanes];
  };
  // Each thread's own: A fragments of queries, or totals over the splits so far (in decode: registers).
  static constexpr int kOwnValues = kLarge ? Shape::kDimSteps : kDecode ? 0 : 2 * kGroups + 1;  // of 16 bytes
  // In 128 dimensions 51 + 34 KiB, in decode 68 + 3; in 256 dimensions 50 + 32 and 50 + 32 + 3.
  static constexpr size_t kSharedBytes =
      Ring::kBytes + sizeof(uint4) * kOwnValues * kAttentionThreads + sizeof(Exchange);
};

// Weighted values of a lane's two vectors, with the maximum and the sum of their weights.
template <int kGroups>
struct Results {
  float o[2 * kGroups][4] = {};
  float max[2] = {kMinusInfinity, kMinusInfinity};
  float sum[2] = {};
};

template <int kHeadDim, bool kDecode>
class AttentionBlock {
 public:
  using Layout = AttentionLayout<kHeadDim, kDecode>;
  using Shape = AttentionShape<kHeadDim>;
  static constexpr int kGroups = Layout::kGroups;

  __device__ AttentionBlock(const AttentionArgs& a, const AttentionItem& item, int kv_head)
      : a_(a), item_(item), kv_head_(kv_head) {
    uint8_t* const shared = SharedMemory<uint8_t>();
    ring_ = reinterpret_cast<uint16_t*>(shared);
    own_ = reinterpret_cast<uint4*>(shared + Layout::Ring::kBytes) + threadIdx.x;
    exchange_ = reinterpret_cast<typename Layout::Exchange*>(
        shared + Layout::Ring::kBytes + sizeof(uint4) * Layout::kOwnValues * kAttentionThreads);
    total_ = Layout::kLarge
                 ? a.totals + static_cast<int64_t>(blockIdx.x) * (2 * kGroups + 1) * kAttentionThreads +
                       threadIdx.x
                 : reinterpret_cast<float4*>(own_);
  }

  __device__ void Run() {
    KeyRange keys;
    const int first_attended = FirstAttended(item_.first_position);
    const int first_split = std::max(item_.first_split, first_attended / kAttentionSplit);
    if (first_split >= item_.end_split) return;  // its keys lie before the window of all vectors
    keys.begin = std::max(first_split * kAttentionSplit, first_attended);
    keys.end = std::min(item_.end_split * kAttentionSplit, item_.last_position + 1);
    keys.first_tile = keys.begin / Shape::kKeys * Shape::kKeys;

    BlockBarrier();  // the item before may still be read
    typename Layout::Ring ring(a_, item_.seat, kv_head_, keys, ring_);
    FindVectors();
    bool first = true;
    for (int tile = keys.first_tile; tile < keys.end; tile += Shape::kKeys) {
      AddTile(ring, tile);
      const int next = tile + Shape::kKeys;
      if (next % kAttentionSplit != 0 && next < keys.end) continue;
      SumOverLanes();
      const bool last = next >= keys.end;
      if (!first) FoldIntoResults();
      if (!last) KeepTotal();
      first = false;
    }
    // How many blocks have splits of this tile.
    const int n_parts = item_.last_position / kAttentionSplit + 1 - first_attended / kAttentionSplit;
    if (item_.partial_row < 0 || n_parts == 1) {
      WriteResults();
    } else {
      WritePartial(first_split);
      MergeIfLast(n_parts, first_attended / kAttentionSplit);
    }
  }

 private:
  __device__ int FirstAttended(int position) const {
    return a_.window > 0 ? std::max(0, position - a_.window + 1) : 0;
  }
  // Of this lane's vector i.
  __device__ static int RowOf(int i) { return (kDecode ? 0 : WarpId() * 16) + LaneId() / 4 + 8 * i; }
  __device__ static int DimOf(int group) {
    return 16 * (kDecode ? WarpId() + kAttentionWarps * group : group);
  }

  __device__ void FindVectors() {
    for (int i = 0; i < 2; ++i) {
      vectors_[i] = VectorOf(a_, item_, kv_head_, RowOf(i));
      attended_.first[i] = FirstAttended(vectors_[i].position);
      attended_.last[i] = vectors_[i].position;
    }
#pragma unroll
    for (int k = 0; k < Shape::kDimSteps; ++k) {
      if constexpr (Layout::kLarge) {
        uint32_t q[4];
        LoadQuery<kHeadDim>(a_, vectors_, k, q);
        own_[k * kAttentionThreads] = make_uint4(q[0], q[1], q[2], q[3]);
      } else {
        LoadQuery<kHeadDim>(a_, vectors_, k, q_[k]);
      }
    }
  }
  __device__ void Query(int k, uint32_t (&q)[4]) const {
    if constexpr (Layout::kLarge) {
      const uint4 own = own_[k * kAttentionThreads];
      q[0] = own.x, q[1] = own.y, q[2] = own.z, q[3] = own.w;
    } else {
      for (int i = 0; i < 4; ++i) q[i] = q_[k][i];
    }
  }

  // Whether every vector of the tile attends all keys of a tile of keys: vectors that are not there may.
  __device__ bool AllAttend(int tile) const {
    return tile + Shape::kKeys - 1 <= item_.first_position && tile >= FirstAttended(item_.last_position);
  }

  // The scores of kChunks · 16 keys, in shared memory at `keys` and of the sequence at `first_key`, and how
  // far they move the maxima.
  template <int kChunks>
  __device__ void Score(const uint16_t* keys, int first_key, bool all, float (&scores)[2 * kChunks][4],
                        float (&max)[2]) const {
#pragma unroll
    for (int k = 0; k < Shape::kDimSteps; ++k) {
      uint32_t q[4];
      Query(k, q);
#pragma unroll
      for (int j = 0; j < kChunks; ++j) {
        MultiplyKeys<Shape::kStride>(q, keys + 16 * j * Shape::kStride + 16 * k, scores[2 * j],
                                     scores[2 * j + 1]);
      }
    }
#pragma unroll
    for (int n = 0; n < 2 * kChunks; ++n) {
      ScaleAndMask(scores[n], a_.scale, first_key + 8 * n, all, attended_);
      max[0] = fmaxf(max[0], fmaxf(scores[n][0], scores[n][1]));
      max[1] = fmaxf(max[1], fmaxf(scores[n][2], scores[n][3]));
    }
    max[0] = QuadMax(max[0]);
    max[1] = QuadMax(max[1]);
  }

  // Moves what was added up to the new maxima.
  __device__ void MoveTo(const float (&max)[2], float (&reference)[2]) {
    float keep[2];
    for (int i = 0; i < 2; ++i) {
      reference[i] = ReferenceOf(max[i]);
      keep[i] = Exp2(r_.max[i] - reference[i]);
      r_.max[i] = max[i];
      r_.sum[i] *= keep[i];
    }
    if (Ballot(keep[0] != 1 || keep[1] != 1) == 0) return;  // mostly, after the first tiles
#pragma unroll
    for (auto& o : r_.o) {
      for (int i = 0; i < 4; ++i) o[i] *= keep[i / 2];
    }
  }

  __device__ void AddTile(typename Layout::Ring& ring, int tile) {
    uint32_t weights[Shape::kChunks][4];
    float sums[Shape::kChunks][2];
    const uint16_t* values;
    if constexpr (kDecode) {
      values = WeighTogether(ring, tile, weights, sums);
    } else {
      values = WeighAlone(ring, tile, weights, sums);
    }
    for (int i = 0; i < 2; ++i) {
      r_.sum[i] += Shape::kChunks == 2 ? sums[0][i] + sums[1][i]
                                       : (sums[0][i] + sums[1][i]) +
                                             (sums[Shape::kChunks - 2][i] + sums[Shape::kChunks - 1][i]);
    }
#pragma unroll
    for (int j = 0; j < Shape::kChunks; ++j) {
#pragma unroll
      for (int group = 0; group < kGroups; ++group) {
        if (DimOf(group) >= kHeadDim) continue;  // the same in all lanes
        MultiplyValues<Shape::kStride>(weights[j], values + 16 * j * Shape::kStride + DimOf(group),
                                       r_.o[2 * group], r_.o[2 * group + 1]);
      }
    }
  }

  // The weights of a tile's keys for this warp's vectors; returns the tile's values.
  __device__ const uint16_t* WeighAlone(typename Layout::Ring& ring, int tile,
                                        uint32_t (&weights)[Shape::kChunks][4],
                                        float (&sums)[Shape::kChunks][2]) {
    const uint16_t* const keys = ring.Next();
    float scores[2 * Shape::kChunks][4] = {};
    float max[2] = {r_.max[0], r_.max[1]}, reference[2];
    Score<Shape::kChunks>(keys, tile, AllAttend(tile), scores, max);
    MoveTo(max, reference);
#pragma unroll
    for (int j = 0; j < Shape::kChunks; ++j) {
      WeightsOf(scores[2 * j], scores[2 * j + 1], reference, weights[j], sums[j]);
    }
    return ring.Next();
  }

  // The same, where warp j scores the 16 keys of chunk j and gets the others' weights from their warps.
  __device__ const uint16_t* WeighTogether(typename Layout::Ring& ring, int tile,
                                           uint32_t (&weights)[Shape::kChunks][4],
                                           float (&sums)[Shape::kChunks][2]) {
    const uint16_t* const keys = ring.Next();
    const int chunk = WarpId(), lane = LaneId();
    const bool scores_keys = chunk < Shape::kChunks;
    float scores[2][4] = {};
    if (scores_keys) {
      float max[2] = {kMinusInfinity, kMinusInfinity};
      Score<1>(keys + 16 * chunk * Shape::kStride, tile + 16 * chunk, AllAttend(tile), scores, max);
      if (lane % 4 == 0) {
        exchange_->maxima[chunk][lane / 4] = max[0];
        exchange_->maxima[chunk][lane / 4 + 8] = max[1];
      }
    }
    BlockBarrier();
    float max[2] = {r_.max[0], r_.max[1]}, reference[2];
    for (int j = 0; j < Shape::kChunks; ++j) {
      max[0] = fmaxf(max[0], exchange_->maxima[j][lane / 4]);
      max[1] = fmaxf(max[1], exchange_->maxima[j][lane / 4 + 8]);
    }
    MoveTo(max, reference);
    if (scores_keys) {
      uint32_t p[4];
      float sum[2];
      WeightsOf(scores[0], scores[1], reference, p, sum);
      exchange_->weights[chunk][lane] = make_uint4(p[0], p[1], p[2], p[3]);
      exchange_->sums[chunk][lane] = make_float2(sum[0], sum[1]);
    }
    const uint16_t* const values = ring.Next();  // and all weights are there
#pragma unroll
    for (int j = 0; j < Shape::kChunks; ++j) {
      const uint4 p = exchange_->weights[j][lane];
      const float2 sum = exchange_->sums[j][lane];
      weights[j][0] = p.x, weights[j][1] = p.y, weights[j][2] = p.z, weights[j][3] = p.w;
      sums[j][0] = sum.x, sums[j][1] = sum.y;
    }
    return values;
  }

  // --- Over the splits of an item ---
  __device__ void SumOverLanes() {
    r_.sum[0] = QuadSum(r_.sum[0]);
    r_.sum[1] = QuadSum(r_.sum[1]);
  }
  __device__ void KeepTotal() {
    if constexpr (kDecode) {
      total_in_registers_ = r_;
    } else {
#pragma unroll
      for (int n = 0; n < 2 * kGroups; ++n) {
        total_[n * kAttentionThreads] = make_float4(r_.o[n][0], r_.o[n][1], r_.o[n][2], r_.o[n][3]);
      }
      total_[2 * kGroups * kAttentionThreads] = make_float4(r_.max[0], r_.max[1], r_.sum[0], r_.sum[1]);
    }
    r_ = {};
  }
  __device__ void FoldIntoResults() {
    float max[2], sum[2];
    if constexpr (kDecode) {
      for (int i = 0; i < 2; ++i) max[i] = total_in_registers_.max[i], sum[i] = total_in_registers_.sum[i];
    } else {
      const float4 stats = total_[2 * kGroups * kAttentionThreads];
      max[0] = stats.x, max[1] = stats.y, sum[0] = stats.z, sum[1] = stats.w;
    }
    Fold fold[2];
    for (int i = 0; i < 2; ++i) {
      fold[i] = FoldOf(max[i], r_.max[i]);
      r_.max[i] = fold[i].max;
      r_.sum[i] = Folded(sum[i], r_.sum[i], fold[i]);
    }
#pragma unroll
    for (int n = 0; n < 2 * kGroups; ++n) {
      float total[4];
      if constexpr (kDecode) {
        for (int i = 0; i < 4; ++i) total[i] = total_in_registers_.o[n][i];
      } else {
        const float4 kept = total_[n * kAttentionThreads];
        total[0] = kept.x, total[1] = kept.y, total[2] = kept.z, total[3] = kept.w;
      }
      for (int i = 0; i < 4; ++i) r_.o[n][i] = Folded(total[i], r_.o[n][i], fold[i / 2]);
    }
  }

  // f(vector 0 or 1, n: r_.o[n] holds two dimensions of it, the first of these) for what this lane has.
  template <class Body>
  __device__ void ForResults(Body f) const {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      if (RowOf(i) >= item_.n_vectors) continue;
#pragma unroll
      for (int n = 0; n < 2 * kGroups; ++n) {
        const int dim = DimOf(n / 2) + 8 * (n % 2) + 2 * (LaneId() % 4);
        if (dim < kHeadDim) f(i, n, dim);
      }
    }
  }

  __device__ uint16_t* OperandOf(const QueryVector& vector) const {
    return a_.operand + (vector.token * a_.n_heads + vector.head) * kHeadDim;
  }

  __device__ void WriteResults() const {
    const float inverse[2] = {1.0f / r_.sum[0], 1.0f / r_.sum[1]};
    ForResults([&](int i, int n, int dim) {
      *reinterpret_cast<uint32_t*>(OperandOf(vectors_[i]) + dim) =
          ResultOf(r_.o[n][2 * i], r_.o[n][2 * i + 1], inverse[i]);
    });
  }

  // --- A tile that several blocks share ---
  // The row of scratch for a vector's results over one split.
  __device__ int64_t PartialRow(int split, int row) const {
    return static_cast<int64_t>(kv_head_) * kAttentionPartialRows + item_.partial_row +
           split * item_.n_vectors + row;
  }

  __device__ void WritePartial(int split) const {
    ForResults([&](int i, int n, int dim) {
      const int64_t row = PartialRow(split, RowOf(i));
      *reinterpret_cast<float2*>(a_.partial_values + row * kHeadDim + dim) =
          make_float2(r_.o[n][2 * i], r_.o[n][2 * i + 1]);
      if (dim == 0) a_.partial_stats[row] = make_float2(r_.max[i], r_.sum[i]);
    });
  }

  // The last of the blocks to come here folds all splits together.
  __device__ void MergeIfLast(int n_parts, int first_split) {
    uint32_t* const counter = a_.progress + item_.counter * a_.kv.n_kv_heads + kv_head_;
    BlockBarrier();
    if (threadIdx.x == 0) {
      exchange_->is_last = AddRelease(counter, 1) + 1 == static_cast<uint32_t>(n_parts) ? 1 : 0;
    }
    BlockBarrier();
    if (exchange_->is_last == 0) return;
    if (threadIdx.x == 0) *counter = 0;  // for the next launch
    constexpr int kFours = kHeadDim / 4;
    for (int at = static_cast<int>(threadIdx.x); at < item_.n_vectors * kFours; at += kAttentionThreads) {
      Merge(first_split, n_parts, at / kFours, at % kFours * 4);
    }
  }

  // Four dimensions of one vector.
  __device__ void Merge(int first_split, int n_parts, int row, int dim) const {
    float max = kMinusInfinity, sum = 0, o[4] = {};
#pragma unroll 4
    for (int part = 0; part < n_parts; ++part) {
      const int64_t from = PartialRow(first_split + part, row);
      const float2 stats = a_.partial_stats[from];
      const float4 values = *reinterpret_cast<const float4*>(a_.partial_values + from * kHeadDim + dim);
      const Fold fold = FoldOf(max, stats.x);
      max = fold.max;
      sum = Folded(sum, stats.y, fold);
      o[0] = Folded(o[0], values.x, fold);
      o[1] = Folded(o[1], values.y, fold);
      o[2] = Folded(o[2], values.z, fold);
      o[3] = Folded(o[3], values.w, fold);
    }
    const float inverse = 1.0f / sum;
    *reinterpret_cast<uint2*>(OperandOf(VectorOf(a_, item_, kv_head_, row)) + dim) =
        make_uint2(ResultOf(o[0], o[1], inverse), ResultOf(o[2], o[3], inverse));
  }

  const AttentionArgs& a_;
  const AttentionItem item_;
  const int kv_head_;
  uint16_t* ring_;
  uint4* own_;
  float4* total_;
  typename Layout::Exchange* exchange_;
  QueryVector vectors_[2];
  Attended attended_;
  uint32_t q_[Layout::kLarge ? 1 : Shape::kDimSteps][4];
  Results<kGroups> r_;
  // Over the splits before this one.
  Results<kDecode ? kGroups : 1> total_in_registers_;
};

template <int kHeadDim, bool kDecode>
__global__ void __launch_bounds__(kAttentionThreads, AttentionLayout<kHeadDim, kDecode>::kBlocksPerProcessor)
    Attend(AttentionArgs a) {
  const int n_work = *a.step.n_items * a.kv.n_kv_heads;
  for (int work = static_cast<int>(blockIdx.x); work < n_work; work += static_cast<int>(gridDim.x)) {
    AttentionBlock<kHeadDim, kDecode>(a, a.step.items[work / a.kv.n_kv_heads], work % a.kv.n_kv_heads).Run();
  }
}

template <int kHeadDim, bool kDecode>
void LaunchAttend(const AttentionArgs& args, int n_processors, cudaStream_t stream) {
  using Layout = AttentionLayout<kHeadDim, kDecode>;
  static_assert(Layout::kSharedBytes <= kLeastSharedBytes);
  const auto n_blocks = static_cast<unsigned>(n_processors * Layout::kBlocksPerProcessor);
  Launch(Attend<kHeadDim, kDecode>, n_blocks, kAttentionThreads, Layout::kSharedBytes, stream, args);
}

template <int kHeadDim>
void LaunchFor(bool decode, const AttentionArgs& args, int n_processors, cudaStream_t stream) {
  return decode ? LaunchAttend<kHeadDim, true>(args, n_processors, stream)
                : LaunchAttend<kHeadDim, false>(args, n_processors, stream);
}

size_t PartialValues(int n_kv_heads, int head_dim) {
  return static_cast<size_t>(n_kv_heads) * kAttentionPartialRows * static_cast<size_t>(head_dim);
}
size_t PartialStats(int n_kv_heads) { return static_cast<size_t>(n_kv_heads) * kAttentionPartialRows * 2; }

}  // namespace

bool AttentionHasHeadDim(int head_dim) {
  constexpr int kAll[] = {16, 32, 64, 80, 96, 128, 256};
  return std::find(std::begin(kAll), std::end(kAll), head_dim) != std::end(kAll);
}

size_t AttentionScratchFloats(int n_kv_heads, int head_dim, int n_processors) {
  if (head_dim <= 128) return PartialValues(n_kv_heads, head_dim) + PartialStats(n_kv_heads);
  // And what prefill's blocks keep, with the maximum and the sum of each vector.
  const size_t totals = static_cast<size_t>(n_processors) * AttentionLayout<256, false>::kBlocksPerProcessor *
                        kAttentionTileVectors * static_cast<size_t>(head_dim + 8);
  return PartialValues(n_kv_heads, head_dim) + PartialStats(n_kv_heads) + totals;
}

void PagedAttention(const StepData& step, int tile_vectors, int layer, int n_heads, float scale, int window,
                    const float* qkv, const KvLayout& kv, const AttentionScratch& scratch, uint16_t* operand,
                    int n_processors, cudaStream_t stream) {
  COTERIE_CHECK_EQ(n_heads % kv.n_kv_heads, 0) << "query heads over KV heads";
  COTERIE_CHECK(tile_vectors == kAttentionTileVectors || tile_vectors == kAttentionDecodeTileVectors)
      << tile_vectors;
  constexpr float kLog2E = 1.44269504f;
  AttentionArgs args = {};
  args.step = step;
  args.kv = kv;
  args.layer = layer;
  args.n_heads = n_heads;
  args.scale = scale * kLog2E;
  args.window = window;
  args.qkv = qkv;
  args.operand = operand;
  args.partial_values = scratch.partial;
  float* const stats = scratch.partial + PartialValues(kv.n_kv_heads, kv.head_dim);
  args.partial_stats = reinterpret_cast<float2*>(stats);
  args.totals = reinterpret_cast<float4*>(stats + PartialStats(kv.n_kv_heads));
  args.progress = scratch.progress;
  const bool decode = tile_vectors == kAttentionDecodeTileVectors;
  switch (kv.head_dim) {
    case 16:
      return LaunchFor<16>(decode, args, n_processors, stream);
    case 32:
      return LaunchFor<32>(decode, args, n_processors, stream);
    case 64:
      return LaunchFor<64>(decode, args, n_processors, stream);
    case 80:
      return LaunchFor<80>(decode, args, n_processors, stream);
    case 96:
      return LaunchFor<96>(decode, args, n_processors, stream);
    case 128:
      return LaunchFor<128>(decode, args, n_processors, stream);
    case 256:
      return LaunchFor<256>(decode, args, n_processors, stream);
    default:
      COTERIE_CHECK(false) << "no kernel for heads of " << kv.head_dim << " dimensions";
  }
}

}  // namespace coterie::cuda
