#ifndef COTERIE_KERNELS_CUDA_LINEAR_LORA_H_
#define COTERIE_KERNELS_CUDA_LINEAR_LORA_H_

#include "kernels/cuda/device_code.h"
#include "kernels/cuda/ops.h"
#include "kernels/cuda/weight_layout.h"

// What adapters add to a product: t = A x, rounded to two bfloat16 that add up to it, then B t
// (linear_expand.h). Ranks are the
// M side of the first product's mma and the K side of the second's, rows of a tile the N side of both, so
// that a rank of r costs the bytes of r. One order of summation for every kernel: A x in chunks of
// kShrinkChunk inputs that are added in order; B t over ranks in order.
namespace coterie::cuda {

constexpr int kShrinkChunk = 512;
__host__ __device__ constexpr int ShrinkChunks(int64_t n_in) {
  return static_cast<int>((n_in + kShrinkChunk - 1) / kShrinkChunk);
}

// The adapters' side of a product.
struct LoraProduct {
  LoraWork work;
  LoraSite site;
  LoraScratch scratch;
  const uint16_t* x = nullptr;  // [rows, n_in]
  int n_in = 0;

  __device__ int Tiles() const { return *work.n_tiles; }
  __device__ const LoraPair& Pair(const LoraTile& tile, int target) const {
    const int64_t layer = static_cast<int64_t>(tile.slot) * work.n_layers + site.layer;
    return work.pairs[layer * kLoraModuleCount + static_cast<int>(site.targets[target].module)];
  }
  // Where a target's t begins in a row of t.
  __device__ int RankOffset(const LoraTile& tile, int target) const {
    int offset = 0;
    for (int i = 0; i < target; ++i) offset += Pair(tile, i).rank;
    return offset;
  }
  // t of an entry as upper and lower halves, [2, max_rank].
  __device__ uint16_t* T(int entry) const {
    return reinterpret_cast<uint16_t*>(scratch.floats + static_cast<int64_t>(entry) * scratch.max_rank);
  }
  // A chunk's share of A x, [max_rank], of steps of few rows.
  __device__ float* Partial(int chunk, int entry) const {
    float* const partials = scratch.floats + static_cast<int64_t>(scratch.max_entries) * scratch.max_rank;
    const int64_t at = static_cast<int64_t>(entry) * ShrinkChunks(n_in) + chunk;
    return partials + at * scratch.max_rank;
  }
  // Chunks' shares of rank r in order, eight loads at once.
  __device__ float SumOfPartials(int n_chunks, int entry, int r) const {
    constexpr int kAtOnce = 8;
    const float* from = Partial(0, entry) + r;
    float sum = 0;
    for (int chunk0 = 0; chunk0 < n_chunks; chunk0 += kAtOnce) {
      float partial[kAtOnce];
#pragma unroll
      for (int i = 0; i < kAtOnce; ++i) {
        partial[i] = chunk0 + i < n_chunks ? from[static_cast<int64_t>(chunk0 + i) * scratch.max_rank] : 0;
      }
#pragma unroll
      for (int i = 0; i < kAtOnce; ++i) {
        if (chunk0 + i < n_chunks) sum = chunk0 + i == 0 ? partial[i] : sum + partial[i];
      }
    }
    return sum;
  }
  __device__ void StoreT(int entry, int r, float t) const {
    const uint16_t high = FloatToBf16(t);
    const float rest = t - Bf16ToFloat(high);
    // An infinity, or NaN, is in the upper half alone.
    const uint16_t low = fabsf(rest) < 1e38f ? FloatToBf16(rest) : 0;
    uint16_t* const to = T(entry);
    to[r] = high;
    to[scratch.max_rank + r] = low;
  }
};

// Among how many warps the ranks of one item (a tile, a target, a chunk if need be) are divided: one computes
// all of them, of which most adapters have 16; where there are warps left, several. An item for every 16
// ranks that an adapter could have would cost a look at a pair each.
__device__ inline int RankShares(const LoraProduct& lora, int n_warps, int n_items) {
  const int max_rank = lora.scratch.max_rank < kMaxLoraRank ? lora.scratch.max_rank : kMaxLoraRank;
  const int most = (max_rank + 15) / 16, shares = n_items > 0 ? n_warps / n_items : 1;
  return shares < 1 ? 1 : shares < most ? shares : most;
}

// Starts to bring the lines of [from, to) to the second cache; `from` begins one.
__device__ inline void PrefetchLines(const uint16_t* from, const uint16_t* to) {
  constexpr int kLineValues = 128 / sizeof(uint16_t);
  for (; from < to; from += kLineValues) PrefetchToSecondCache(from);
}

// Starts reading a chunk of 16 ranks of A, of which registers take a quarter at a time; by one warp. Half a
// row is a lane's.
__device__ inline void PrefetchChunk(const LoraPair& pair, int64_t n_in, int rank0, int chunk) {
  constexpr int64_t kHalf = kShrinkChunk / 2;
  const int rank = rank0 + LaneId() / 2;
  const int64_t k = chunk * int64_t{kShrinkChunk} + LaneId() % 2 * kHalf;
  if (rank >= pair.rank || k >= n_in) return;
  const uint16_t* const row = pair.a + rank * n_in;
  PrefetchLines(row + k, row + (k + kHalf < n_in ? k + kHalf : n_in));
}

// sum [16 ranks, 8 rows] of one chunk of A x: ranks rank0.., rows of the tile.
__device__ inline void ShrinkOneChunk(const LoraProduct& lora, const LoraPair& pair, const LoraTile& tile,
                                      int rank0, int chunk, float (&sum)[4]) {
  PrefetchChunk(pair, lora.n_in, rank0, chunk);
  const int lane = LaneId(), g = lane / 4, t = lane % 4;
  const int64_t n_in = lora.n_in;
  const int row = g < tile.n_rows ? lora.work.rows[tile.first + g] : -1;
  const uint16_t* x = lora.x + (row < 0 ? 0 : row) * n_in + 8 * t;
  const uint16_t* a = pair.a + (rank0 + g) * n_in + 8 * t;
  const bool low = rank0 + g < pair.rank, high = rank0 + g + 8 < pair.rank;
  const int k_end = static_cast<int>(n_in < (chunk + 1) * kShrinkChunk ? n_in : (chunk + 1) * kShrinkChunk);
  for (int i = 0; i < 4; ++i) sum[i] = 0;
  constexpr uint4 kZero = {0, 0, 0, 0};
  constexpr int kAtOnce = 4;  // blocks of 32 inputs: 12 loads under way in a lane
  for (int k0 = chunk * kShrinkChunk; k0 < k_end; k0 += kAtOnce * kBlockInputs) {
    uint4 a_low[kAtOnce], a_high[kAtOnce], b[kAtOnce];
#pragma unroll
    for (int i = 0; i < kAtOnce; ++i) {
      const int k = k0 + i * kBlockInputs;
      const bool inside = k + 8 * t < k_end;
      a_low[i] = inside && low ? LoadStream(reinterpret_cast<const uint4*>(a + k)) : kZero;
      a_high[i] = inside && high ? LoadStream(reinterpret_cast<const uint4*>(a + 8 * n_in + k)) : kZero;
      b[i] = inside && row >= 0 ? *reinterpret_cast<const uint4*>(x + k) : kZero;
    }
#pragma unroll
    for (int i = 0; i < kAtOnce; ++i) {
      MmaBf16(sum, {a_low[i].x, a_high[i].x, a_low[i].y, a_high[i].y}, {b[i].x, b[i].y});
      MmaBf16(sum, {a_low[i].z, a_high[i].z, a_low[i].w, a_high[i].w}, {b[i].z, b[i].w});
    }
  }
}

}  // namespace coterie::cuda

#endif  // COTERIE_KERNELS_CUDA_LINEAR_LORA_H_
