#ifndef COTERIE_KERNELS_CUDA_LINEAR_ADAPTER_WARPS_H_
#define COTERIE_KERNELS_CUDA_LINEAR_ADAPTER_WARPS_H_

#include "kernels/cuda/linear_expand.h"
#include "kernels/cuda/linear_split.h"

// What the adapter warps of linear_small.cu do beside the product warps.
namespace coterie::cuda {

constexpr int kProductWarps = kKParts;
constexpr int kProductThreads = kProductWarps * kWarpLanes;
constexpr int kAdapterThreads = kSmallAdapterWarps * kWarpLanes;
// Named barriers: 1 of the product warps, 2 to 5 of them and one adapter warp, 6 of the adapter warps.
constexpr int kProductBarrier = 1, kDeltaBarrier = 2, kAdapterBarrier = 6;

// The block's share of A x, chunk by chunk, and then of t. Every warp ends knowing that all of t is there.
// `meanwhile()` is done where the first of two waits for other blocks begins.
template <class Meanwhile>
__device__ inline void ShrinkTogether(const LoraProduct& lora, Meanwhile meanwhile) {
  const int warp = static_cast<int>(blockIdx.x) * kSmallAdapterWarps + WarpId() - kProductWarps;
  const int n_warps = static_cast<int>(gridDim.x) * kSmallAdapterWarps;
  const int lane = LaneId(), g = lane / 4, t = lane % 4;
  const int n_chunks = ShrinkChunks(lora.n_in), n_targets = lora.site.n_targets, n_tiles = lora.Tiles();
  // One thread of a block polls: thousands would stand in the way of those that count.
  const bool polls = static_cast<int>(threadIdx.x) == kProductThreads;
  const auto wait_for_all = [&](uint32_t* progress, auto do_meanwhile) {
    NamedBarrier(kAdapterBarrier, kAdapterThreads);
    if (polls) AddRelease(progress, 1);
    do_meanwhile();
    if (polls) {
      while (LoadAcquire(progress) < gridDim.x) Pause();
    }
    NamedBarrier(kAdapterBarrier, kAdapterThreads);
  };

  const int n_items = n_tiles * n_targets * n_chunks;
  const int shares = RankShares(lora, n_warps, n_items);
  for (int item = warp; item < n_items * shares; item += n_warps) {
    const int chunk = item % n_chunks, share = item / n_chunks % shares;
    const int target = item / (n_chunks * shares) % n_targets;
    const LoraTile tile = lora.work.tiles[item / (n_chunks * shares * n_targets)];
    const LoraPair pair = lora.Pair(tile, target);
    const int offset = lora.RankOffset(tile, target);
    for (int rank0 = share * 16; rank0 < pair.rank; rank0 += shares * 16) {
      float sum[4];
      ShrinkOneChunk(lora, pair, tile, rank0, chunk, sum);
      for (int i = 0; i < 4; ++i) {
        const int r = rank0 + g + i / 2 * 8, row = 2 * t + i % 2;
        if (r < pair.rank && row < tile.n_rows) lora.Partial(chunk, tile.first + row)[offset + r] = sum[i];
      }
    }
  }
  wait_for_all(lora.scratch.progress, meanwhile);

  for (int item = warp; item < n_tiles * n_targets * kLoraTileRows; item += n_warps) {
    const int row = item % kLoraTileRows, target = item / kLoraTileRows % n_targets;
    const LoraTile tile = lora.work.tiles[item / (kLoraTileRows * n_targets)];
    if (row >= tile.n_rows) continue;
    const int rank = lora.Pair(tile, target).rank, offset = lora.RankOffset(tile, target);
    for (int r = offset + lane; r < offset + rank; r += kWarpLanes) {
      lora.StoreT(tile.first + row, r, lora.SumOfPartials(n_chunks, tile.first + row, r));
    }
  }
  wait_for_all(lora.scratch.progress + 1, [] {});

  // The last block resets the counters for the next launch: nobody polls any more.
  if (!polls || AddRelease(lora.scratch.progress + 2, 1) + 1 != gridDim.x) return;
  for (int i = 0; i < kLoraProgressWords; ++i) lora.scratch.progress[i] = 0;
}

// The deltas of the block's strips, in turn. Of one group: to shared memory, up to two of the warp's strips
// ahead of the product warps. Of several: each block's of one of the column's strips, as a part of its own.
template <WeightForm kForm, int kTokens>
__device__ inline void AdapterWarp(const LinearProduct& p, const StripsOfBlock& strips, float* deltas) {
  const int warp = WarpId() - kProductWarps;
  const bool split = strips.groups > 1;
  const auto column_of = [&](int turn) {
    return p.w.first_out + strips.Strip(turn, strips.group) * kStripOutputs;
  };
  const auto prefetch = [&](int turn) {
    if (strips.Strip(turn, strips.group) < strips.n_strips) PrefetchDeltas(p.lora, column_of(turn));
  };
  if (p.shrink) {
    ShrinkTogether(p.lora, [&] { prefetch(warp); });
  } else {
    prefetch(warp);
  }
  for (int turn = warp; strips.Strip(turn, strips.group) < strips.n_strips; turn += kSmallAdapterWarps) {
    prefetch(turn + kSmallAdapterWarps);
    const int64_t strip = strips.Strip(turn, strips.group);
    const int buffer = split ? warp : warp * 2 + turn / kSmallAdapterWarps % 2;
    float* const to = deltas + buffer * kTokens * kStripPitch;
    AddDeltas(p.lora, column_of(turn), p.first_row, kTokens, to, p.lora.Tiles(), [](int i) { return i; });
    if (!split) {
      NamedBarrier(kDeltaBarrier + warp, kProductThreads + kWarpLanes);
      continue;
    }
    const SplitStrip<kTokens> parts(p.split, strips, turn, strips.group);
    parts.WaitForPlace();
    const int g = LaneId() / 4, t = LaneId() % 4;
    for (int tile = 0; tile * 8 < p.rows; ++tile) {
      const float* of_row = to + (tile * 8 + 2 * t) * kStripPitch + g;
      parts.Store(kKParts, tile, {of_row[0], of_row[kStripPitch], of_row[8], of_row[kStripPitch + 8]});
    }
    if (parts.Arrive(kKParts + 1)) FinishSplitStrip<kForm, kTokens>(p, parts, strip, true);
  }
}

}  // namespace coterie::cuda

#endif  // COTERIE_KERNELS_CUDA_LINEAR_ADAPTER_WARPS_H_
