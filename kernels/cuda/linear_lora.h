#ifndef COTERIE_KERNELS_CUDA_LINEAR_LORA_H_
#define COTERIE_KERNELS_CUDA_LINEAR_LORA_H_

#include "kernels/cuda/device_code.h"
#include "kernels/cuda/ops.h"
#include "kernels/cuda/weight_layout.h"

// What adapters add to a product: t = A x, rounded to two bfloat16 that add up to it, then B t. Ranks are the
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

// sum [16 ranks, 8 rows] of one chunk of A x: ranks rank0.., rows of the tile.
__device__ inline void ShrinkOneChunk(const LoraProduct& lora, const LoraPair& pair, const LoraTile& tile,
                                      int rank0, int chunk, float (&sum)[4]) {
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

// delta [16 outputs, 8 rows] = B t of a tile and a target: outputs `column`.. of y. The lane's outputs that
// are not the target's get zeros.
__device__ inline void ExpandStrip(const LoraProduct& lora, const LoraPair& pair, const LoraTile& tile,
                                   int rank_offset, int64_t first_output, int n_out, float (&delta)[4]) {
  const int lane = LaneId(), g = lane / 4, t = lane % 4;
  const uint16_t* b = pair.b + (first_output + g) * pair.rank;
  const bool low = first_output + g >= 0 && first_output + g < n_out;
  const bool high = first_output + g + 8 >= 0 && first_output + g + 8 < n_out;
  const uint16_t* of_row = lora.T(tile.first + (g < tile.n_rows ? g : 0)) + rank_offset;
  constexpr uint4 kZero = {0, 0, 0, 0};
  for (int i = 0; i < 4; ++i) delta[i] = 0;
// Unrolled, it spills, and loads nothing earlier: neither loads nor mma pass each other.
#pragma unroll 1
  for (int r0 = 0; r0 < pair.rank; r0 += kBlockInputs) {
    const int r = r0 + 8 * t;
    const bool inside = r < pair.rank, of_tile = inside && g < tile.n_rows;
    const uint4 b_low = inside && low ? LoadStream(reinterpret_cast<const uint4*>(b + r)) : kZero;
    const uint4 b_high =
        inside && high ? LoadStream(reinterpret_cast<const uint4*>(b + 8 * pair.rank + r)) : kZero;
    const uint4 t_high = of_tile ? *reinterpret_cast<const uint4*>(of_row + r) : kZero;
    const uint4 t_low = of_tile ? *reinterpret_cast<const uint4*>(of_row + lora.scratch.max_rank + r) : kZero;
    const uint32_t first[4] = {b_low.x, b_high.x, b_low.y, b_high.y};
    const uint32_t second[4] = {b_low.z, b_high.z, b_low.w, b_high.w};
    MmaBf16(delta, first, {t_high.x, t_high.y});
    MmaBf16(delta, first, {t_low.x, t_low.y});
    MmaBf16(delta, second, {t_high.z, t_high.w});
    MmaBf16(delta, second, {t_low.z, t_low.w});
  }
}

// Floats between the outputs of two rows in a strip's sums in shared memory: lanes write (row 2 t, output g)
// to banks 8 t + g, so no two meet.
constexpr int kStripPitch = 20;
// Nothing added: x + -0 is x for every x, -0 too.
constexpr float kNoDelta = -0.0f;

// Adds all adapters' shares of outputs [column, column + 16) to deltas [n_rows, kStripPitch] in shared
// memory, rows first_row.. of the step; by one warp. `next_tile(&i)` gives the numbers of the tiles, in
// order, until it is false.
template <class NextTile>
__device__ inline void AddDeltas(const LoraProduct& lora, int64_t column, int first_row, int n_rows,
                                 float* deltas, NextTile next_tile) {
  const int lane = LaneId(), g = lane / 4, t = lane % 4;
  for (int i = lane; i < n_rows * kStripPitch; i += kWarpLanes) deltas[i] = kNoDelta;
  WarpBarrier();
  for (int index = 0; next_tile(&index);) {
    const LoraTile tile = lora.work.tiles[index];
    int rank_offset = 0;
    for (int target = 0; target < lora.site.n_targets; ++target) {
      const LoraPair pair = lora.Pair(tile, target);
      const int64_t first_output = column - lora.site.targets[target].y_column;
      const int n_out = lora.site.n_out[target];
      if (pair.rank > 0 && first_output < n_out && first_output + kStripOutputs > 0) {
        float delta[4];
        ExpandStrip(lora, pair, tile, rank_offset, first_output, n_out, delta);
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          const int entry = tile.first + 2 * t + i % 2;
          const int64_t output = first_output + g + i / 2 * 8;
          if (2 * t + i % 2 >= tile.n_rows || output < 0 || output >= n_out) continue;
          const int row = lora.work.rows[entry] - first_row;
          if (row < 0 || row >= n_rows) continue;
          float* const to = deltas + row * kStripPitch + (g + i / 2 * 8);
          *to += lora.work.weights[entry] * pair.scale * delta[i];
        }
      }
      rank_offset += pair.rank;
    }
    WarpBarrier();  // the next tile's rows may be the same ones
  }
}

}  // namespace coterie::cuda

#endif  // COTERIE_KERNELS_CUDA_LINEAR_LORA_H_
