#include <algorithm>

#include "common/check.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/linear_forms.h"
#include "kernels/cuda/linear_product.h"

// Products of few rows: all time goes into reading weights, each byte once.
//
// A block is one of at most as many as there are multiprocessors. It takes strips of 16 outputs in turn; its
// eight product warps take one part of K each (kKParts), so that even 4,096 outputs, 256 strips, keep 132
// multiprocessors busy. A warp copies its records into a ring of its own, ahead of what it multiplies, over
// the ends of strips, too. How far ahead: an H200 reads 4.8 TB/s, 36 bytes a nanosecond for each of its 132
// multiprocessors, and a load takes some 800 ns under load, so 30 KB must be under way in each; the rings
// hold 48 to 64 KB, 6 to 8 KB a warp. Registers hold none of it.
//
// Four adapter warps of each block do first their share of t = A x, then the adapters' deltas of the block's
// strips, ahead of the product warps, which wait for nothing but those. They wait for all blocks twice: all
// are resident, since no more are launched.
namespace coterie::cuda {
namespace {

constexpr int kProductWarps = kKParts;
constexpr int kAdapterWarps = 4;
constexpr int kProductThreads = kProductWarps * kWarpLanes;
constexpr int kAdapterThreads = kAdapterWarps * kWarpLanes;
// Named barriers: 1 of the product warps, 2 to 5 of them and one adapter warp, 6 of the adapter warps.
constexpr int kProductBarrier = 1, kDeltaBarrier = 2, kAdapterBarrier = 6;

template <WeightForm kForm>
constexpr int kRingRecords = std::max(4, (8192 + RecordBytes(kForm) - 1) / RecordBytes(kForm));

// Shared memory of a block, in bytes from its beginning.
struct SmallLayout {
  size_t sums;    // [kKParts, tokens, kStripPitch] floats
  size_t deltas;  // [kAdapterWarps, 2, tokens, kStripPitch] floats
  size_t x;       // [kKParts, tokens, x_pitch] bfloat16
  size_t bytes;   // all of it
  int x_pitch;    // 0: x is read where it is
};

template <WeightForm kForm>
SmallLayout LayOut(int n_tokens, int64_t n_in, bool adapters, size_t limit) {
  SmallLayout layout = {};
  size_t at = size_t{kProductWarps} * kRingRecords<kForm> * RecordBytes(kForm);
  const size_t strip_bytes = static_cast<size_t>(n_tokens) * kStripPitch * sizeof(float);
  layout.sums = at;
  at += kKParts * strip_bytes;
  layout.deltas = at;
  if (adapters) at += size_t{kAdapterWarps} * 2 * strip_bytes;
  layout.x = at;
  const int64_t records_of_part = (Records(kForm, n_in) + kKParts - 1) / kKParts;
  const int64_t pitch = records_of_part * RecordInputs(kForm) + kInputPad<kForm>;
  const size_t with_x = at + static_cast<size_t>(kKParts * n_tokens * pitch) * sizeof(uint16_t);
  if (with_x <= limit) {
    layout.x_pitch = static_cast<int>(pitch);
    at = with_x;
  }
  layout.bytes = at;
  return layout;
}

// Copies the warp's part of x to shared memory, for this warp alone.
__device__ inline void StageInputs(const LinearProduct& p, int n_tokens, int64_t k_begin, int64_t k_end,
                                   int pitch, uint16_t* to) {
  const int pieces = static_cast<int>((k_end - k_begin) / 8);
  for (int row = 0; row < n_tokens; ++row) {
    for (int piece = LaneId(); piece < pieces; piece += kWarpLanes) {
      const int64_t k = k_begin + piece * 8;
      uint4* const shared = reinterpret_cast<uint4*>(to + row * pitch + piece * 8);
      if (p.w.n_in % 8 == 0) {
        const bool valid = row < p.rows && k < p.w.n_in;
        CopyAsync16(shared, valid ? p.x + row * p.w.n_in + k : p.x, valid);
      } else {
        *shared = row < p.rows ? LoadInputs(p.x, row, static_cast<int>(p.w.n_in), k) : uint4{0, 0, 0, 0};
      }
    }
  }
}

// --- Adapter warps ---

// The block's share of A x, chunk by chunk, and then of t. Every warp ends knowing that all of t is there.
__device__ inline void ShrinkTogether(const LoraProduct& lora) {
  const int warp = static_cast<int>(blockIdx.x) * kAdapterWarps + WarpId() - kProductWarps;
  const int n_warps = static_cast<int>(gridDim.x) * kAdapterWarps;
  const int lane = LaneId(), g = lane / 4, t = lane % 4;
  const int n_chunks = ShrinkChunks(lora.n_in), n_targets = lora.site.n_targets, n_tiles = lora.Tiles();
  const int max_rank = lora.scratch.max_rank < kMaxLoraRank ? lora.scratch.max_rank : kMaxLoraRank;
  const int rank_tiles = (max_rank + 15) / 16;
  const auto wait_for_all = [&](uint32_t* progress) {
    NamedBarrier(kAdapterBarrier, kAdapterThreads);
    if (static_cast<int>(threadIdx.x) == kProductThreads) AddRelease(progress, 1);
    while (LoadAcquire(progress) < gridDim.x) Pause();
    WarpBarrier();
  };

  for (int item = warp; item < n_tiles * n_targets * rank_tiles * n_chunks; item += n_warps) {
    const int chunk = item % n_chunks, rank0 = item / n_chunks % rank_tiles * 16;
    const int target = item / (n_chunks * rank_tiles) % n_targets;
    const LoraTile tile = lora.work.tiles[item / (n_chunks * rank_tiles * n_targets)];
    const LoraPair pair = lora.Pair(tile, target);
    if (rank0 >= pair.rank) continue;
    float sum[4];
    ShrinkOneChunk(lora, pair, tile, rank0, chunk, sum);
    const int offset = lora.RankOffset(tile, target);
    for (int i = 0; i < 4; ++i) {
      const int r = rank0 + g + i / 2 * 8, row = 2 * t + i % 2;
      if (r < pair.rank && row < tile.n_rows) lora.Partial(chunk, tile.first + row)[offset + r] = sum[i];
    }
  }
  wait_for_all(lora.scratch.progress);

  for (int item = warp; item < n_tiles * n_targets * kLoraTileRows; item += n_warps) {
    const int row = item % kLoraTileRows, target = item / kLoraTileRows % n_targets;
    const LoraTile tile = lora.work.tiles[item / (kLoraTileRows * n_targets)];
    if (row >= tile.n_rows) continue;
    const int rank = lora.Pair(tile, target).rank, offset = lora.RankOffset(tile, target);
    for (int r = offset + lane; r < offset + rank; r += kWarpLanes) {
      const float* from = lora.Partial(0, tile.first + row) + r;
      float sum = from[0];
      for (int chunk = 1; chunk < n_chunks; ++chunk)
        sum += from[static_cast<int64_t>(chunk) * lora.scratch.max_rank];
      lora.StoreT(tile.first + row, r, sum);
    }
  }
  wait_for_all(lora.scratch.progress + 1);
}

// The last block resets the counters for the next launch: all warps of all blocks have been through their
// waits.
__device__ inline void EndShrink(const LoraProduct& lora) {
  if (static_cast<int>(threadIdx.x) != kProductThreads) return;
  uint32_t* const progress = lora.scratch.progress;
  if (AddRelease(progress + 2, 1) + 1 != gridDim.x) return;
  for (int i = 0; i < kLoraProgressWords; ++i) progress[i] = 0;
}

template <int kTokens>
__device__ inline void AdapterWarp(const LinearProduct& p, int64_t n_strips, float* deltas) {
  if (p.shrink) ShrinkTogether(p.lora);
  const int warp = WarpId() - kProductWarps, n_tiles = p.lora.Tiles();
  int turn = 0;
  for (int64_t strip = blockIdx.x; strip < n_strips; strip += gridDim.x, ++turn) {
    if (turn % kAdapterWarps != warp) continue;
    float* const to = deltas + (warp * 2 + turn / kAdapterWarps % 2) * kTokens * kStripPitch;
    int next = 0;
    AddDeltas(p.lora, p.w.first_out + strip * kStripOutputs, 0, kTokens, to, [&](int* index) {
      *index = next++;
      return *index < n_tiles;
    });
    NamedBarrier(kDeltaBarrier + warp, kProductThreads + kWarpLanes);
  }
  if (!p.shrink) return;
  NamedBarrier(kAdapterBarrier, kAdapterThreads);
  EndShrink(p.lora);
}

// --- Product warps ---

template <WeightForm kForm, int kTokenTiles>
__global__ void __launch_bounds__(kProductThreads + kAdapterThreads, 1)
    LinearSmallKernel(LinearProduct p, SmallLayout layout) {
  constexpr int kTokens = kTokenTiles * 8, kRing = kRingRecords<kForm>;
  unsigned char* const shared = SharedMemory<unsigned char>();
  float* const sums = reinterpret_cast<float*>(shared + layout.sums);
  float* const deltas = reinterpret_cast<float*>(shared + layout.deltas);
  const int64_t n_strips = Strips(p.w.n_out), n_records = Records(kForm, p.w.n_in);
  if (WarpId() >= kProductWarps) {
    if (p.lora.Tiles() > 0) AdapterWarp<kTokens>(p, n_strips, deltas);
    return;
  }

  const int part = WarpId(), lane = LaneId(), g = lane / 4, t = lane % 4;
  const int token_tiles = (p.rows + 7) / 8;  // of kTokenTiles
  const int64_t first_record = FirstRecordOfPart(n_records, part);
  const int64_t end_record = FirstRecordOfPart(n_records, part + 1);
  const bool staged = layout.x_pitch > 0;
  uint16_t* const x_part =
      reinterpret_cast<uint16_t*>(shared + layout.x) + static_cast<int64_t>(part) * kTokens * layout.x_pitch;
  unsigned char* const ring = shared + part * kRing * RecordBytes(kForm);

  if (staged) {
    StageInputs(p, token_tiles * 8, first_record * RecordInputs(kForm), end_record * RecordInputs(kForm),
                layout.x_pitch, x_part);
  }
  CommitCopies();
  // The next record to copy.
  int64_t copy_strip = blockIdx.x, copy_record = first_record;
  int copy_slot = 0;
  const auto copy_next = [&] {
    if (copy_strip < n_strips && first_record < end_record) {
      CopyRecord<kForm>(p.w, copy_strip, copy_record, lane, ring + copy_slot * RecordBytes(kForm));
      if (++copy_record == end_record) {
        copy_record = first_record;
        copy_strip += gridDim.x;
      }
    }
    CommitCopies();
    if (++copy_slot == kRing) copy_slot = 0;
  };
  for (int i = 0; i < kRing - 1; ++i) copy_next();
  const bool adapters = p.adapters && p.lora.Tiles() > 0;

  int slot = 0, turn = 0;
  for (int64_t strip = blockIdx.x; strip < n_strips; strip += gridDim.x, ++turn) {
    // What the sum is added to: one output of one row a thread, or several.
    constexpr int kElements = (kTokens * kStripOutputs + kProductThreads - 1) / kProductThreads;
    float old[kElements];
    int64_t y_index[kElements];
#pragma unroll
    for (int i = 0; i < kElements; ++i) {
      const int element = static_cast<int>(threadIdx.x) + i * kProductThreads;
      const int row = element / kStripOutputs;
      const int64_t output = strip * kStripOutputs + element % kStripOutputs;
      const bool valid = row < p.rows && output < p.w.n_out;
      y_index[i] = valid ? row * p.y_pitch + p.w.first_out + output : -1;
      old[i] = valid && p.accumulate ? p.y[y_index[i]] : 0.0f;
    }

    float sum[kTokenTiles][4];
#pragma unroll
    for (int tile = 0; tile < kTokenTiles; ++tile)
      sum[tile][0] = sum[tile][1] = sum[tile][2] = sum[tile][3] = 0;
    for (int64_t record = first_record; record < end_record; ++record) {
      WaitCopies<kRing - 2>();
      WarpBarrier();  // and the slot that is refilled next was read by all lanes
      copy_next();
      const Record<kForm> weights = {ring + slot * RecordBytes(kForm), lane};
      if (++slot == kRing) slot = 0;
#pragma unroll
      for (int block = 0; block < Record<kForm>::kBlocks; ++block) {
        BlockFragments<kForm> fragments;
        fragments.Read(weights, block);
        const int64_t k = record * RecordInputs(kForm) + block * kBlockInputs;
        const uint16_t* x_block = x_part + (k - first_record * RecordInputs(kForm));
#pragma unroll
        for (int tile = 0; tile < kTokenTiles; ++tile) {
          if (tile >= token_tiles) continue;
          const int row = tile * 8 + g;
          uint32_t b[2][2];
          if (staged) {
            InputFragments<kForm>(x_block + row * layout.x_pitch, t, b);
          } else {
            LoadInputFragments<kForm>(p, row, k, t, b);
          }
          float x_sum[2];
          if constexpr (Record<kForm>::kMinimum) SumInputs(b, x_sum);
          fragments.MultiplyAdd(b, x_sum, sum[tile]);
        }
      }
    }

    NamedBarrier(kProductBarrier, kProductThreads);  // the last strip's sums were read
#pragma unroll
    for (int tile = 0; tile < kTokenTiles; ++tile) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int row = tile * 8 + 2 * t + i % 2;
        sums[(part * kTokens + row) * kStripPitch + g + i / 2 * 8] = sum[tile][i];
      }
    }
    const int adapter_warp = turn % kAdapterWarps;
    if (adapters) {
      NamedBarrier(kDeltaBarrier + adapter_warp, kProductThreads + kWarpLanes);
    } else {
      NamedBarrier(kProductBarrier, kProductThreads);
    }
    const float* delta = deltas + (adapter_warp * 2 + turn / kAdapterWarps % 2) * kTokens * kStripPitch;
#pragma unroll
    for (int i = 0; i < kElements; ++i) {
      if (y_index[i] < 0) continue;
      const int element = static_cast<int>(threadIdx.x) + i * kProductThreads;
      const int at = element / kStripOutputs * kStripPitch + element % kStripOutputs;
      float total = sums[at];
#pragma unroll
      for (int j = 1; j < kKParts; ++j) total += sums[j * kTokens * kStripPitch + at];
      const int64_t output = strip * kStripOutputs + element % kStripOutputs;
      p.y[y_index[i]] = FinishOutput<kForm>(p, output, total, old[i], adapters ? delta[at] : kNoDelta);
    }
  }
}

template <WeightForm kForm, int kTokenTiles>
void Run(const LinearProduct& product, int n_processors, cudaStream_t stream) {
  const int n_tokens = kTokenTiles * 8;
  const SmallLayout layout = LayOut<kForm>(n_tokens, product.w.n_in, product.adapters, SharedMemoryLimit());
  const auto n_blocks = std::min<int64_t>(Strips(product.w.n_out), n_processors);
  const int n_threads = kProductThreads + (product.adapters ? kAdapterThreads : 0);
  Launch(LinearSmallKernel<kForm, kTokenTiles>, static_cast<unsigned>(n_blocks),
         static_cast<unsigned>(n_threads), layout.bytes, stream, product, layout);
}

template <WeightForm kForm>
void RunForm(const LinearProduct& product, int n_processors, cudaStream_t stream) {
  if (product.rows <= 16) return Run<kForm, 2>(product, n_processors, stream);
  Run<kForm, kSmallRows / 8>(product, n_processors, stream);
}

}  // namespace

void LinearSmall(const LinearProduct& product, int n_processors, cudaStream_t stream) {
  COTERIE_CHECK(product.rows > 0 && product.rows <= kSmallRows) << product.rows << " rows";
  WithForm(product.w.form, [&](auto form) {
    RunForm<form>(product, n_processors, stream);
    return true;
  });
}

}  // namespace coterie::cuda
