#ifndef COTERIE_KERNELS_CUDA_LINEAR_EXPAND_H_
#define COTERIE_KERNELS_CUDA_LINEAR_EXPAND_H_

#include <bit>

#include "kernels/cuda/linear_lora.h"

// B t of one strip of outputs for all adapters of a step, by one warp.
//
// One load waits for another: of a tile, of its pair, of B and t. Tile after tile, sixteen adapters would
// wait some 80 times, up to 800 ns each. So each lane reads the tile and the pair of one of 32 tiles, and
// loads of B and t run kExpandAhead steps of 32 ranks ahead of their products: sixteen adapters of rank 16
// wait six times. The sums are those of one tile after another.
namespace coterie::cuda {

// Floats between the outputs of two rows in a strip's sums in shared memory: lanes write (row 2 t, output g)
// to banks 8 t + g, so no two meet.
constexpr int kStripPitch = 20;
// Nothing added: x + -0 is x for every x, -0 too.
constexpr float kNoDelta = -0.0f;
constexpr int kExpandAhead = 4;

// A pair that reaches the strip, as one lane holds it for its warp.
struct StripPair {
  const uint16_t* b = nullptr;  // [.., rank] from the strip's first output on, which may not be the target's
  float scale = 0;
  int32_t rank = 0;  // 0: none
  int32_t rank_offset = 0;
  int32_t first = 0, n_rows = 0;  // entries of its tile
};

// Which outputs of a strip are a target's: [first, end) of the target, of which the strip's begin at
// `at`.
struct StripRange {
  int64_t at, first, end;

  __device__ StripRange(const LoraSite& site, int target, int64_t column)
      : at(column - site.targets[target].y_column),
        first(at > 0 ? at : 0),
        end(at + kStripOutputs < site.n_out[target] ? at + kStripOutputs : site.n_out[target]) {}
  __device__ bool IsEmpty() const { return first >= end; }
  __device__ bool Has(int output_of_strip) const {
    return at + output_of_strip >= first && at + output_of_strip < end;
  }
};

__device__ inline StripPair LoadStripPair(const LoraProduct& lora, int tile_index, int target,
                                          const StripRange& range) {
  const LoraTile tile = lora.work.tiles[tile_index];
  const LoraPair pair = lora.Pair(tile, target);
  return {pair.b + range.at * pair.rank, pair.scale, pair.rank,
          lora.RankOffset(tile, target), tile.first, tile.n_rows};
}

// B and t of 32 ranks of a pair on their way to two mma, and where the pair's product is added.
struct ExpandStep {
  uint4 b_low, b_high, t_high, t_low;
  float scale;
  float weights[2];        // of the tile's rows 2 t and 2 t + 1
  int rows[2];             // of the sums; -1: not there
  bool is_there, is_last;  // there is such a step; of its pair
};

// Loads the steps of the pairs that a warp's lanes hold, in order.
class ExpandLoader {
 public:
  __device__ ExpandLoader(const LoraProduct& lora, const StripPair& of_lane, const StripRange& range,
                          int first_row, int n_rows)
      : lora_(lora),
        of_lane_(of_lane),
        first_row_(first_row),
        n_rows_(n_rows),
        low_(range.Has(LaneId() / 4)),
        high_(range.Has(LaneId() / 4 + 8)),
        lanes_left_(Ballot(of_lane.rank > 0)) {}

  __device__ void Next(ExpandStep* step) {
    if (r0_ >= pair_.rank) {
      step->is_there = lanes_left_ != 0;
      if (lanes_left_ == 0) return;
      TakePair(std::popcount((lanes_left_ & (0u - lanes_left_)) - 1));
    }
    const int lane = LaneId(), g = lane / 4, t = lane % 4, r = r0_ + 8 * t;
    constexpr uint4 kZero = {0, 0, 0, 0};
    const bool inside = r < pair_.rank, of_tile = inside && g < pair_.n_rows;
    const uint16_t* const b = pair_.b + g * pair_.rank + r;
    step->b_low = inside && low_ ? LoadStream(reinterpret_cast<const uint4*>(b)) : kZero;
    step->b_high = inside && high_ ? LoadStream(reinterpret_cast<const uint4*>(b + 8 * pair_.rank)) : kZero;
    const uint16_t* const of_row = lora_.T(pair_.first + (g < pair_.n_rows ? g : 0)) + pair_.rank_offset + r;
    step->t_high = of_tile ? *reinterpret_cast<const uint4*>(of_row) : kZero;
    step->t_low = of_tile ? *reinterpret_cast<const uint4*>(of_row + lora_.scratch.max_rank) : kZero;
    r0_ += kBlockInputs;
    step->is_there = true;
    step->is_last = r0_ >= pair_.rank;
    step->scale = pair_.scale;
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      step->rows[i] = -1;
      if (!step->is_last || 2 * t + i >= pair_.n_rows) continue;
      const int entry = pair_.first + 2 * t + i, row = lora_.work.rows[entry] - first_row_;
      step->weights[i] = lora_.work.weights[entry];
      if (row >= 0 && row < n_rows_) step->rows[i] = row;
    }
  }

 private:
  __device__ void TakePair(int lane) {
    lanes_left_ &= lanes_left_ - 1;
    r0_ = 0;
    pair_ = {Shuffle(of_lane_.b, lane),     Shuffle(of_lane_.scale, lane),
             Shuffle(of_lane_.rank, lane),  Shuffle(of_lane_.rank_offset, lane),
             Shuffle(of_lane_.first, lane), Shuffle(of_lane_.n_rows, lane)};
  }

  const LoraProduct& lora_;
  const StripPair of_lane_;
  const int first_row_, n_rows_;
  const bool low_, high_;  // the lane's outputs g and g + 8 are the target's
  uint32_t lanes_left_;    // whose pairs have not begun
  StripPair pair_;         // that is being loaded, the same in all lanes
  int r0_ = 0;             // its next rank
};

// Adds the products of a warp's pairs to `deltas`, one pair after another.
__device__ inline void ExpandPairs(const LoraProduct& lora, const StripPair& of_lane, const StripRange& range,
                                   int first_row, int n_rows, float* deltas) {
  const int g = LaneId() / 4;
  ExpandLoader loader(lora, of_lane, range, first_row, n_rows);
  ExpandStep steps[kExpandAhead] = {};
#pragma unroll
  for (int ahead = 0; ahead < kExpandAhead; ++ahead) loader.Next(&steps[ahead]);
  float delta[4] = {0, 0, 0, 0};
  while (steps[0].is_there) {
#pragma unroll
    for (int ahead = 0; ahead < kExpandAhead; ++ahead) {
      ExpandStep& step = steps[ahead];
      if (!step.is_there) continue;
      const uint32_t first[4] = {step.b_low.x, step.b_high.x, step.b_low.y, step.b_high.y};
      const uint32_t second[4] = {step.b_low.z, step.b_high.z, step.b_low.w, step.b_high.w};
      MmaBf16(delta, first, {step.t_high.x, step.t_high.y});
      MmaBf16(delta, first, {step.t_low.x, step.t_low.y});
      MmaBf16(delta, second, {step.t_high.z, step.t_high.w});
      MmaBf16(delta, second, {step.t_low.z, step.t_low.w});
      if (step.is_last) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          const int output = g + i / 2 * 8, row = step.rows[i % 2];
          if (row >= 0 && range.Has(output)) {
            deltas[row * kStripPitch + output] += step.weights[i % 2] * step.scale * delta[i];
          }
          delta[i] = 0;
        }
        WarpBarrier();  // the next pair's rows may be the same ones
      }
      loader.Next(&step);
    }
  }
}

// Adds all adapters' shares of outputs [column, column + 16) to deltas [n_rows, kStripPitch] in shared
// memory, rows first_row.. of the step; by one warp. `tile_at(i)`, 0 <= i < n_tiles, gives the numbers of the
// tiles, in order.
template <class TileAt>
__device__ inline void AddDeltas(const LoraProduct& lora, int64_t column, int first_row, int n_rows,
                                 float* deltas, int n_tiles, TileAt tile_at) {
  for (int i = LaneId(); i < n_rows * kStripPitch; i += kWarpLanes) deltas[i] = kNoDelta;
  WarpBarrier();
  for (int target = 0; target < lora.site.n_targets; ++target) {
    const StripRange range(lora.site, target, column);
    if (range.IsEmpty()) continue;
    for (int base = 0; base < n_tiles; base += kWarpLanes) {
      StripPair of_lane;
      if (base + LaneId() < n_tiles) of_lane = LoadStripPair(lora, tile_at(base + LaneId()), target, range);
      ExpandPairs(lora, of_lane, range, first_row, n_rows, deltas);
    }
  }
}

// Brings what AddDeltas will read of B to the second cache; by one warp.
__device__ inline void PrefetchDeltas(const LoraProduct& lora, int64_t column) {
  for (int index = LaneId(); index < lora.Tiles(); index += kWarpLanes) {
    const LoraTile tile = lora.work.tiles[index];
    for (int target = 0; target < lora.site.n_targets; ++target) {
      const StripRange range(lora.site, target, column);
      if (range.IsEmpty()) continue;
      const LoraPair pair = lora.Pair(tile, target);
      PrefetchLines(pair.b + range.first * pair.rank, pair.b + range.end * pair.rank);
    }
  }
}

}  // namespace coterie::cuda

#endif  // COTERIE_KERNELS_CUDA_LINEAR_EXPAND_H_
