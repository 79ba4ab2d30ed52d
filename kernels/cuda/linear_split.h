#ifndef COTERIE_KERNELS_CUDA_LINEAR_SPLIT_H_
#define COTERIE_KERNELS_CUDA_LINEAR_SPLIT_H_

#include "kernels/cuda/device_code.h"
#include "kernels/cuda/linear_division.h"
#include "kernels/cuda/linear_forms.h"
#include "kernels/cuda/linear_product.h"

// Strips whose K several blocks share: each part of K has its sums in device memory, and who brings the last
// one adds them up, in their order.
namespace coterie::cuda {

// The strips of a block: in its turn `turn` the column computes groups of them, `of` = 0 to groups - 1.
struct StripsOfBlock {
  int groups, columns, column, group;
  int64_t n_strips;

  __device__ StripsOfBlock(const SmallDivision& division, int64_t n_strips)
      : groups(division.groups),
        columns(division.columns),
        column(static_cast<int>(blockIdx.x) / division.groups),
        group(static_cast<int>(blockIdx.x) % division.groups),
        n_strips(n_strips) {}
  __device__ int64_t Strip(int turn, int of) const {
    return column + (static_cast<int64_t>(turn) * groups + of) * columns;
  }
  __device__ bool HasTurn(int turn) const { return Strip(turn, 0) < n_strips; }
};

// Where a strip is put together. A column has places for kSplitTurns turns, which it uses over and over, so
// that they stay in the second cache; whoever comes to one that its last user has not left yet waits: a
// block may be so many turns ahead of its neighbours. All functions are a warp's.
template <int kTokens>
class SplitStrip {
 public:
  __device__ SplitStrip(const SplitScratch& scratch, const StripsOfBlock& strips, int turn, int of)
      : uses_(static_cast<uint32_t>(turn / kSplitTurns)),
        is_last_use_(strips.Strip(turn + kSplitTurns, of) >= strips.n_strips) {
    const int place = (strips.column * kSplitTurns + turn % kSplitTurns) * strips.groups + of;
    sums_ = reinterpret_cast<float4*>(scratch.sums) + static_cast<int64_t>(place) * kValues;
    counters_ = scratch.counters + place * 2;
  }

  // Before the first Store.
  __device__ void WaitForPlace() const {
    if (uses_ == 0) return;
    while (LoadAcquire(counters_ + 1) < uses_) Pause();
    WarpBarrier();
  }
  // The lane's four sums of 8 tokens, as an mma leaves them; part kKParts is what adapters add.
  __device__ void Store(int part, int tile, const float (&sum)[4]) const {
    At(part, tile) = {sum[0], sum[1], sum[2], sum[3]};
  }
  __device__ float4 Load(int part, int tile) const { return At(part, tile); }
  // Behind the last Store of a part. True for the last of `n` parts: all the others' sums are there.
  __device__ bool Arrive(uint32_t n) const {
    WarpBarrier();
    uint32_t before = 0;
    if (LaneId() == 0) before = AddRelease(counters_, 1);
    before = Shuffle(before, 0);
    WarpBarrier();
    return before + 1 == n;
  }
  // By the last one, once it has read the sums. Counters end as they began.
  __device__ void Leave() const {
    WarpBarrier();
    if (LaneId() != 0) return;
    counters_[0] = 0;
    if (is_last_use_) {
      counters_[1] = 0;
    } else {
      AddRelease(counters_ + 1, 1);
    }
  }

 private:
  static constexpr int kValues = (kKParts + 1) * (kTokens / 8) * kWarpLanes;  // of a place
  __device__ float4& At(int part, int tile) const {
    return sums_[(part * (kTokens / 8) + tile) * kWarpLanes + LaneId()];
  }

  float4* sums_;
  uint32_t* counters_;  // parts that have arrived, uses that are over
  uint32_t uses_;       // of the place, before this one
  bool is_last_use_;
};

// Adds up the parts of a strip and stores its outputs; by the warp that arrived last.
template <WeightForm kForm, int kTokens>
__device__ inline void FinishSplitStrip(const LinearProduct& p, const SplitStrip<kTokens>& parts,
                                        int64_t strip, bool adapters) {
  const int lane = LaneId(), g = lane / 4, t = lane % 4;
  const int token_tiles = (p.rows + 7) / 8;
#pragma unroll 1
  for (int tile = 0; tile < token_tiles; ++tile) {
    float4 part[kKParts], added = {kNoDelta, kNoDelta, kNoDelta, kNoDelta};
#pragma unroll
    for (int j = 0; j < kKParts; ++j) part[j] = parts.Load(j, tile);
    if (adapters) added = parts.Load(kKParts, tile);
    float4 total = part[0];
#pragma unroll
    for (int j = 1; j < kKParts; ++j) {
      total.x += part[j].x;
      total.y += part[j].y;
      total.z += part[j].z;
      total.w += part[j].w;
    }
    const float totals[4] = {total.x, total.y, total.z, total.w};
    const float deltas[4] = {added.x, added.y, added.z, added.w};
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int row = tile * 8 + 2 * t + i % 2;
      const int64_t output = strip * kStripOutputs + g + i / 2 * 8;
      if (row >= p.rows || output >= p.w.n_out) continue;
      float* const y = p.y + row * p.y_pitch + p.w.first_out + output;
      *y = FinishOutput<kForm>(p, output, totals[i], p.accumulate ? *y : 0.0f) + deltas[i];
    }
  }
  parts.Leave();
}

}  // namespace coterie::cuda

#endif  // COTERIE_KERNELS_CUDA_LINEAR_SPLIT_H_
