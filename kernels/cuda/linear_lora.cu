#include <algorithm>
#include <bit>

#include "kernels/cuda/launch.h"
#include "kernels/cuda/linear_expand.h"
#include "kernels/cuda/linear_product.h"

// The adapters of steps of many rows, in launches of their own behind the base's product. In steps of few
// rows they ride in it (linear_small.cu).
namespace coterie::cuda {
namespace {

constexpr int kLoraWarps = 4;
// Left to itself, ptxas aims at more of them in some architectures, and spills.
constexpr int kBlocksPerProcessor = 4;
constexpr int kWindowRows = 64;  // of y that a block adds to

// t = A x of every entry: a warp computes 16 ranks of a tile at a time.
__global__ void __launch_bounds__(kLoraWarps* kWarpLanes, kBlocksPerProcessor)
    ShrinkRowsKernel(LoraProduct lora) {
  const int warp = static_cast<int>(blockIdx.x) * kLoraWarps + WarpId();
  const int n_warps = static_cast<int>(gridDim.x) * kLoraWarps;
  const int lane = LaneId(), g = lane / 4, t = lane % 4;
  const int n_targets = lora.site.n_targets, n_tiles = lora.Tiles();
  const int n_items = n_tiles * n_targets, shares = RankShares(lora, n_warps, n_items);
  for (int item = warp; item < n_items * shares; item += n_warps) {
    const int share = item % shares, target = item / shares % n_targets;
    const LoraTile tile = lora.work.tiles[item / (shares * n_targets)];
    const LoraPair pair = lora.Pair(tile, target);
    const int offset = lora.RankOffset(tile, target);
    for (int rank0 = share * 16; rank0 < pair.rank; rank0 += shares * 16) {
      float total[4];
      ShrinkOneChunk(lora, pair, tile, rank0, 0, total);
      for (int chunk = 1; chunk < ShrinkChunks(lora.n_in); ++chunk) {
        float sum[4];
        ShrinkOneChunk(lora, pair, tile, rank0, chunk, sum);
        for (int i = 0; i < 4; ++i) total[i] += sum[i];
      }
      for (int i = 0; i < 4; ++i) {
        const int r = rank0 + g + i / 2 * 8, row = 2 * t + i % 2;
        if (r < pair.rank && row < tile.n_rows) lora.StoreT(tile.first + row, offset + r, total[i]);
      }
    }
  }
}

// The numbers of the tiles that have rows in [first_row, end_row), in order; by one warp. Returns how many.
__device__ inline int FindTiles(const LoraProduct& lora, int first_row, int end_row, int* found) {
  const int n_tiles = lora.Tiles();
  int n_found = 0;
  for (int base = 0; base < n_tiles; base += kWarpLanes) {
    const int index = base + LaneId();
    bool inside = false;
    if (index < n_tiles) {
      const LoraTile tile = lora.work.tiles[index];
      for (int i = 0; i < tile.n_rows; ++i) {
        const int row = lora.work.rows[tile.first + i];
        inside = inside || (row >= first_row && row < end_row);
      }
    }
    const uint32_t all = Ballot(inside);
    if (inside) found[n_found + std::popcount(all & ((1u << LaneId()) - 1))] = index;
    n_found += std::popcount(all);
  }
  return n_found;
}

// y += B t for rows of one window (blockIdx.y) and strips blockIdx.x, + gridDim.x ...
__global__ void __launch_bounds__(kLoraWarps* kWarpLanes)
    ExpandRowsKernel(LoraProduct lora, int rows, float* y, int64_t y_pitch) {
  float* const deltas = SharedMemory<float>() + WarpId() * kWindowRows * kStripPitch;
  int* const found = SharedMemory<int>() + kLoraWarps * kWindowRows * kStripPitch;  // [1 + tiles]
  const int first_row = static_cast<int>(blockIdx.y) * kWindowRows;
  const int n_rows = rows - first_row < kWindowRows ? rows - first_row : kWindowRows;
  if (WarpId() == 0) {
    const int n = FindTiles(lora, first_row, first_row + n_rows, found + 1);
    if (LaneId() == 0) found[0] = n;
  }
  BlockBarrier();
  const int n_found = found[0];
  if (n_found == 0) return;
  const int64_t n_strips = Strips(y_pitch);
  for (int64_t strip = static_cast<int64_t>(blockIdx.x) * kLoraWarps + WarpId(); strip < n_strips;
       strip += static_cast<int64_t>(gridDim.x) * kLoraWarps) {
    AddDeltas(lora, strip * kStripOutputs, first_row, n_rows, deltas, n_found,
              [&](int i) { return found[1 + i]; });
    for (int i = LaneId(); i < n_rows * kStripOutputs; i += kWarpLanes) {
      const int row = i / kStripOutputs;
      const int64_t column = strip * kStripOutputs + i % kStripOutputs;
      if (column >= y_pitch) continue;
      const float delta = deltas[row * kStripPitch + i % kStripOutputs];
      if (BitsOfFloat(delta) != BitsOfFloat(kNoDelta)) y[(first_row + row) * y_pitch + column] += delta;
    }
    WarpBarrier();
  }
}

}  // namespace

void LoraRows(const LoraProduct& lora, int rows, float* y, int64_t y_pitch, int n_processors,
              cudaStream_t stream) {
  constexpr int kThreads = kLoraWarps * kWarpLanes;
  const auto processors = static_cast<unsigned>(n_processors);
  Launch(ShrinkRowsKernel, processors * kBlocksPerProcessor, kThreads, 0, stream, lora);
  const auto n_windows = static_cast<unsigned>((rows + kWindowRows - 1) / kWindowRows);
  const auto most_columns = static_cast<unsigned>((Strips(y_pitch) + kLoraWarps - 1) / kLoraWarps);
  const unsigned columns = std::clamp(processors * kBlocksPerProcessor / n_windows, 1u, most_columns);
  // Every row of a window may have adapters of its own.
  const size_t shared_bytes = kLoraWarps * kWindowRows * kStripPitch * sizeof(float) +
                              sizeof(int) * (1 + size_t{kWindowRows} * lora.scratch.max_adapters);
  Launch(ExpandRowsKernel, dim3(columns, n_windows), kThreads, shared_bytes, stream, lora, rows, y, y_pitch);
}

}  // namespace coterie::cuda
