#include <algorithm>

#include "kernels/cuda/launch.h"
#include "kernels/cuda/linear_product.h"
#include "kernels/cuda/shared_memory.h"

// Products of many rows, in the order of summation of linear_small.cu, so that a prompt's rows get the bits
// that they would get one at a time.
//
// A block computes 128 outputs of 128 rows: eight warps of 64 x 32, so that each fragment read from shared
// memory serves four (weights) or four (x) mma. A lane holds two sums of each of its 64 results: of the part
// of K that is being computed, and of those before. With fragments that is some 200 registers, one block a
// multiprocessor. What limits it: 6 KB of shared memory for every 32 mma, about half of what mma.sync could
// do; codes cost their unpacking besides.
//
// Two stages of forms with larger records do not fit where a block has 99 KB: there the warps have fewer
// rows.
namespace coterie::cuda {
namespace {

constexpr int kTileStrips = 8;
constexpr int kWarpStrips = 4, kWarpTiles = 4;  // of 16 outputs, of 8 rows
constexpr int kLargeWarps = 8;
static_assert(kTileStrips == kLargeWarps, "each warp copies one strip's record");

// Shared memory of a stage: records of the strips, then x [kTileRows, kPitch]: two warps beside
// each other for the strips, four below each other for the rows.
template <WeightForm kForm, int kTiles>
struct Stage {
  static constexpr int kTileRows = 4 * kTiles * 8;
  static constexpr int kPitch = RecordInputs(kForm) + kInputPad<kForm>;  // bfloat16
  static constexpr size_t kInputs = size_t{kTileStrips} * RecordBytes(kForm);
  static constexpr size_t kBytes = kInputs + size_t{kTileRows} * kPitch * sizeof(uint16_t);
};

// The most tiles of a warp with which every device has room for two stages.
template <WeightForm kForm>
constexpr int LeastTiles() {
  if (2 * Stage<kForm, kWarpTiles>::kBytes <= kLeastSharedBytes) return kWarpTiles;
  return 2 * Stage<kForm, 3>::kBytes <= kLeastSharedBytes ? 3 : 2;
}

template <WeightForm kForm, int kTiles>
__device__ inline void CopyStage(const LinearProduct& p, int64_t first_strip, int first_row, int64_t record,
                                 unsigned char* stage) {
  const int warp = WarpId(), lane = LaneId();
  if (first_strip + warp < Strips(p.w.n_out)) {
    CopyRecord<kForm>(p.w, first_strip + warp, record, lane, stage + warp * RecordBytes(kForm));
  }
  constexpr int kPieces = RecordInputs(kForm) / 8;  // of a row
  constexpr int kRowsAtOnce = kLargeWarps * kWarpLanes / kPieces;
  const int piece = static_cast<int>(threadIdx.x) % kPieces;
  const int64_t k = record * RecordInputs(kForm) + piece * 8;
#pragma unroll
  for (int i = 0; i < Stage<kForm, kTiles>::kTileRows; i += kRowsAtOnce) {
    const int tile_row = i + static_cast<int>(threadIdx.x) / kPieces, row = first_row + tile_row;
    const bool valid = row < p.rows && k < p.w.n_in;
    CopyAsync16(stage + Stage<kForm, kTiles>::kInputs +
                    (tile_row * Stage<kForm, kTiles>::kPitch + piece * 8) * sizeof(uint16_t),
                valid ? p.x + row * p.w.n_in + k : p.x, valid);
  }
}

template <WeightForm kForm, int kTiles>
__global__ void __launch_bounds__(kLargeWarps* kWarpLanes, 1)
    LinearLargeKernel(LinearProduct p, int n_stages) {
  using Shared = Stage<kForm, kTiles>;
  unsigned char* const shared = SharedMemory<unsigned char>();
  const int lane = LaneId(), g = lane / 4, t = lane % 4;
  const int64_t first_strip = static_cast<int64_t>(blockIdx.y) * kTileStrips, n_strips = Strips(p.w.n_out);
  const int first_row = static_cast<int>(blockIdx.x) * Shared::kTileRows;
  const int warp_strip = WarpId() % 2 * kWarpStrips;  // in the tile
  const int warp_row = WarpId() / 2 * (kTiles * 8);   // in the tile
  const bool busy = first_row + warp_row < p.rows && first_strip + warp_strip < n_strips;
  const int64_t n_records = Records(kForm, p.w.n_in);

  int64_t copied = 0;
  int copy_slot = 0;
  const auto copy_next = [&] {
    if (copied < n_records) {
      CopyStage<kForm, kTiles>(p, first_strip, first_row, copied, shared + copy_slot * Shared::kBytes);
    }
    CommitCopies();
    ++copied;
    if (++copy_slot == n_stages) copy_slot = 0;
  };
  for (int i = 0; i < n_stages - 1; ++i) copy_next();

  float total[kWarpStrips][kTiles][4], sum[kWarpStrips][kTiles][4];
  int slot = 0;
  for (int part = 0; part < kKParts; ++part) {
#pragma unroll
    for (int strip = 0; strip < kWarpStrips; ++strip) {
#pragma unroll
      for (int tile = 0; tile < kTiles; ++tile) {
#pragma unroll
        for (int i = 0; i < 4; ++i) sum[strip][tile][i] = 0;
      }
    }
    const int64_t end = FirstRecordOfPart(n_records, part + 1);
    for (int64_t record = FirstRecordOfPart(n_records, part); record < end; ++record) {
      if (n_stages == 3) {
        WaitCopies<1>();
      } else {
        WaitCopies<0>();
      }
      BlockBarrier();  // the stage is there for all, and all have read the one that is filled next
      copy_next();
      const unsigned char* const stage = shared + slot * Shared::kBytes;
      if (++slot == n_stages) slot = 0;
      if (!busy) continue;
      const auto* x = reinterpret_cast<const uint16_t*>(stage + Shared::kInputs);
#pragma unroll 1
      for (int block = 0; block < Record<kForm>::kBlocks; ++block) {
        uint32_t b[kTiles][2][2];
        float x_sum[kTiles][2];
#pragma unroll
        for (int tile = 0; tile < kTiles; ++tile) {
          const int row = warp_row + tile * 8 + g;
          InputFragments<kForm>(x + row * Shared::kPitch + block * kBlockInputs, t, b[tile]);
          if constexpr (Record<kForm>::kMinimum) SumInputs(b[tile], x_sum[tile]);
        }
#pragma unroll
        for (int strip = 0; strip < kWarpStrips; ++strip) {
          BlockFragments<kForm> fragments;
          fragments.Read({stage + (warp_strip + strip) * RecordBytes(kForm), lane}, block);
#pragma unroll
          for (int tile = 0; tile < kTiles; ++tile) {
            fragments.MultiplyAdd(b[tile], x_sum[tile], sum[strip][tile]);
          }
        }
      }
    }
#pragma unroll
    for (int strip = 0; strip < kWarpStrips; ++strip) {
#pragma unroll
      for (int tile = 0; tile < kTiles; ++tile) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          float& of_all = total[strip][tile][i];
          of_all = part == 0 ? sum[strip][tile][i] : of_all + sum[strip][tile][i];
        }
      }
    }
  }

  if (!busy) return;
#pragma unroll
  for (int strip = 0; strip < kWarpStrips; ++strip) {
#pragma unroll
    for (int tile = 0; tile < kTiles; ++tile) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int row = first_row + warp_row + tile * 8 + 2 * t + i % 2;
        const int64_t output = (first_strip + warp_strip + strip) * kStripOutputs + g + i / 2 * 8;
        if (row >= p.rows || output >= p.w.n_out) continue;
        float* const y = p.y + row * p.y_pitch + p.w.first_out + output;
        *y = FinishOutput<kForm>(p, output, total[strip][tile][i], p.accumulate ? *y : 0.0f);
      }
    }
  }
}

template <WeightForm kForm, int kTiles>
void LaunchLarge(const LinearProduct& product, cudaStream_t stream) {
  using Shared = Stage<kForm, kTiles>;
  const size_t stages = std::min<size_t>(3, SharedMemoryLimit() / Shared::kBytes);
  const int rows = (product.rows + Shared::kTileRows - 1) / Shared::kTileRows;
  const int64_t outputs = (Strips(product.w.n_out) + kTileStrips - 1) / kTileStrips;
  Launch(LinearLargeKernel<kForm, kTiles>, dim3(static_cast<unsigned>(rows), static_cast<unsigned>(outputs)),
         kLargeWarps * kWarpLanes, stages * Shared::kBytes, stream, product, static_cast<int>(stages));
}

template <WeightForm kForm>
bool RunLarge(const LinearProduct& product, cudaStream_t stream) {
  if (product.w.n_in % 8 != 0) return false;
  constexpr int kLeastTiles = LeastTiles<kForm>();
  static_assert(2 * Stage<kForm, kLeastTiles>::kBytes <= kLeastSharedBytes);
  if (SharedMemoryLimit() >= 2 * Stage<kForm, kWarpTiles>::kBytes) {
    LaunchLarge<kForm, kWarpTiles>(product, stream);
  } else {
    LaunchLarge<kForm, kLeastTiles>(product, stream);
  }
  return true;
}

}  // namespace

bool LinearLarge(const LinearProduct& product, cudaStream_t stream) {
  return WithForm(product.w.form, [&](auto form) { return RunLarge<form>(product, stream); });
}

}  // namespace coterie::cuda
