#include <algorithm>

#include "common/check.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/linear_adapter_warps.h"
#include "kernels/cuda/linear_division.h"
#include "kernels/cuda/linear_forms.h"
#include "kernels/cuda/linear_product.h"
#include "kernels/cuda/linear_split.h"

// Products of few rows: all time goes into reading weights, each byte once.
//
// A block is one of at most as many as there are multiprocessors. It takes strips of 16 outputs in turn; its
// eight product warps take one part of K each (kKParts), so that even 4,096 outputs, 256 strips, keep 132
// multiprocessors busy. A warp copies its records into a ring of its own, ahead of what it multiplies, over
// the ends of strips, too. How far ahead: an H200 reads 4.8 TB/s, 36 bytes a nanosecond for each of its 132
// multiprocessors, and a load takes some 800 ns under load, so 30 KB must be under way in each; the rings
// hold 55 to 68 KB (96 of F32), of which 44 to 54 (64) are. Registers hold none of it.
//
// x lies in shared memory, some 150 KB of it. Where that is too little (16 rows of more than 4,096 inputs),
// each block would read x again for every strip: 117 MB through the second cache for 16 rows of an 8B base's
// down projection, whose weights are 117 MB in BF16 and 33 MB in Q4_0. Then up to eight blocks share K: each
// keeps the x of its parts of K and computes those of several strips at a time (linear_division.h), and the
// parts' sums meet in device memory (linear_split.h): 7 MB of x and 5 MB of sums in place of the 117. It
// costs the way there and back, some 2 us at the end, which is why it is not done to fill multiprocessors:
// 64 strips, of a segment of 1,024 outputs, have 4 MB under way in 64 multiprocessors, all that the memory
// takes.
//
// Four adapter warps of each block do first their share of t = A x, then the adapters' deltas of the block's
// strips. That takes some 8 us, in which the product warps come through several strips: the sums of up to
// kLateStrips of them wait in registers for their deltas, so that the weights don't. Adapter warps wait for
// all blocks twice: all are resident, since no more are launched.
namespace coterie::cuda {
namespace {

// Copies rows of a part of x to shared memory: those from `first_row` on, by `step`, and zeros behind the
// last. For this warp alone.
__device__ inline void StageInputs(const LinearProduct& p, const SmallDivision& division, int first_row,
                                   int step, int64_t k_begin, int64_t k_end, uint16_t* to) {
  const int pieces = static_cast<int>((k_end - k_begin) / 8);
  for (int row = first_row; row < division.staged_rows; row += step) {
    for (int piece = LaneId(); piece < pieces; piece += kWarpLanes) {
      const int64_t k = k_begin + piece * 8;
      uint4* const shared = reinterpret_cast<uint4*>(to + row * division.x_pitch + piece * 8);
      if (p.w.n_in % 8 == 0) {
        const bool valid = row < p.rows && k < p.w.n_in;
        CopyAsync16(shared, valid ? p.x + row * p.w.n_in + k : p.x, valid);
      } else {
        *shared = row < p.rows ? LoadInputs(p.x, row, static_cast<int>(p.w.n_in), k) : uint4{0, 0, 0, 0};
      }
    }
  }
}

// The outputs of a strip that a thread of the product warps finishes: element i is of row Row(i).
template <int kTokens>
struct StripElements {
  static constexpr int kCount = (kTokens * kStripOutputs + kProductThreads - 1) / kProductThreads;

  static __device__ int Row(int i) {
    return (static_cast<int>(threadIdx.x) + i * kProductThreads) / kStripOutputs;
  }
  static __device__ int64_t Output(int64_t strip) {
    return strip * kStripOutputs + static_cast<int>(threadIdx.x) % kStripOutputs;
  }
  // Where it stands in a strip's sums or deltas in shared memory.
  static __device__ int Place(int i) {
    return Row(i) * kStripPitch + static_cast<int>(threadIdx.x) % kStripOutputs;
  }
  static __device__ bool IsThere(const LinearProduct& p, int64_t strip, int i) {
    return Row(i) < p.rows && Output(strip) < p.w.n_out;
  }
  static __device__ float* InY(const LinearProduct& p, int64_t strip, int i) {
    return p.y + Row(i) * p.y_pitch + p.w.first_out + Output(strip);
  }

  float of[kCount];
};

// Adds up the parts of a strip, which lie in shared memory; by all product warps.
template <WeightForm kForm, int kTokens>
__device__ inline void AddParts(const LinearProduct& p, int64_t strip, const float* sums,
                                const StripElements<kTokens>& old, StripElements<kTokens>* base) {
  using Elements = StripElements<kTokens>;
#pragma unroll
  for (int i = 0; i < Elements::kCount; ++i) {
    base->of[i] = 0;
    if (!Elements::IsThere(p, strip, i)) continue;
    const int at = Elements::Place(i);
    float total = sums[at];
#pragma unroll
    for (int j = 1; j < kKParts; ++j) total += sums[j * kTokens * kStripPitch + at];
    base->of[i] = FinishOutput<kForm>(p, Elements::Output(strip), total, old.of[i]);
  }
}

// Stores a strip's outputs, with what adapters add (null: nothing).
template <int kTokens>
__device__ inline void StoreStrip(const LinearProduct& p, int64_t strip, const StripElements<kTokens>& base,
                                  const float* deltas) {
  using Elements = StripElements<kTokens>;
#pragma unroll
  for (int i = 0; i < Elements::kCount; ++i) {
    if (!Elements::IsThere(p, strip, i)) continue;
    *Elements::InY(p, strip, i) = base.of[i] + (deltas != nullptr ? deltas[Elements::Place(i)] : kNoDelta);
  }
}

// Strips whose sums wait for deltas. Of many rows none: registers hold other things, and a strip takes
// longer.
template <int kTokenTiles>
constexpr int kLateStrips = kTokenTiles > 2 ? 0 : 4;

template <WeightForm kForm, int kTokenTiles>
__global__ void __launch_bounds__(kProductThreads + kAdapterThreads, 1)
    LinearSmallKernel(LinearProduct p, SmallDivision division) {
  constexpr int kTokens = kTokenTiles * 8, kRing = RingRecords(kForm);
  // Of many rows, no more fragments at once than registers hold: with wide weights and many scales, one.
  [[maybe_unused]] constexpr int kBlocksAtOnce =
      kTokenTiles > 2 && (LiesInRows(kForm) || Record<kForm>::kHalves) ? 1 : Record<kForm>::kBlocks;
  unsigned char* const shared = SharedMemory<unsigned char>();
  float* const sums = reinterpret_cast<float*>(shared + division.sums);
  float* const deltas = reinterpret_cast<float*>(shared + division.deltas);
  const StripsOfBlock strips(division, Strips(p.w.n_out));
  const int64_t n_records = Records(kForm, p.w.n_in);
  if (WarpId() >= kProductWarps) {
    if (p.lora.Tiles() > 0) AdapterWarp<kForm, kTokens>(p, strips, deltas);
    return;
  }

  // The warp has one part of K of one of the strips that the column computes at a time.
  const bool split = strips.groups > 1;
  const int parts_of_block = kKParts / strips.groups;
  const int part_of_block = WarpId() % parts_of_block, strip_of_turn = WarpId() / parts_of_block;
  const int part = strips.group * parts_of_block + part_of_block;
  const int lane = LaneId(), g = lane / 4, t = lane % 4;
  const int token_tiles = (p.rows + 7) / 8;  // of kTokenTiles
  const int first_record = static_cast<int>(FirstRecordOfPart(n_records, part));
  const int end_record = static_cast<int>(FirstRecordOfPart(n_records, part + 1));
  const int last_row = g < p.rows - (token_tiles - 1) * 8 ? g : p.rows - (token_tiles - 1) * 8;
  const bool staged = division.x_pitch > 0;
  uint16_t* const x_part = reinterpret_cast<uint16_t*>(shared + division.x) +
                           part_of_block * division.staged_rows * division.x_pitch;
  const int n_slots = division.ring;
  unsigned char* const ring = shared + WarpId() * n_slots * RecordBytes(kForm);

  if (staged) {
    StageInputs(p, division, strip_of_turn, strips.groups, first_record * RecordInputs(kForm),
                end_record * RecordInputs(kForm), x_part);
  }
  CommitCopies();
  // The next record to copy.
  int64_t copy_strip = strips.Strip(0, strip_of_turn);
  int copy_record = first_record, copy_slot = 0;
  const auto copy_next = [&] {
    if (copy_strip < strips.n_strips && first_record < end_record) {
      CopyRecord<kForm>(p.w, copy_strip, copy_record, lane, ring + copy_slot * RecordBytes(kForm));
      if (++copy_record == end_record) {
        copy_record = first_record;
        copy_strip += gridDim.x;  // the next turn's
      }
    }
    CommitCopies();
    if (++copy_slot == n_slots) copy_slot = 0;
  };
  for (int i = 0; i < n_slots - 1; ++i) copy_next();
  const bool adapters = p.adapters && p.lora.Tiles() > 0;
  if (split) {
    if (n_slots == kRing) {
      WaitCopies<kRing - 1>();
    } else {
      WaitCopies<kLeastRingRecords - 1>();
    }
    NamedBarrier(kProductBarrier, kProductThreads);  // x is there, of which each warp copied some rows
  }

  using Elements = StripElements<kTokens>;
  constexpr int kLate = kLateStrips<kTokenTiles>;
  Elements late[kLate + 1] = {};  // of the turns up to this one
  const auto store_late = [&](int turn, const Elements& base) {
    const int adapter_warp = turn % kSmallAdapterWarps,
              buffer = adapter_warp * 2 + turn / kSmallAdapterWarps % 2;
    NamedBarrier(kDeltaBarrier + adapter_warp, kProductThreads + kWarpLanes);
    StoreStrip(p, strips.Strip(turn, 0), base, deltas + buffer * kTokens * kStripPitch);
  };

  int slot = 0, turn = 0;
  for (; strips.HasTurn(turn); ++turn) {
    const int64_t strip = strips.Strip(turn, strip_of_turn);
    if (strip >= strips.n_strips) break;  // of several groups: others' last turn
    Elements old = {};                    // what the sum is added to
    if (p.accumulate && !split) {
#pragma unroll
      for (int i = 0; i < Elements::kCount; ++i) {
        if (Elements::IsThere(p, strip, i)) old.of[i] = *Elements::InY(p, strip, i);
      }
    }

    float sum[kTokenTiles][4];
#pragma unroll
    for (int tile = 0; tile < kTokenTiles; ++tile)
      sum[tile][0] = sum[tile][1] = sum[tile][2] = sum[tile][3] = 0;
    for (int record = first_record; record < end_record; ++record) {
      if (n_slots == kRing) {
        WaitCopies<kRing - 2>();
      } else {
        WaitCopies<kLeastRingRecords - 2>();
      }
      WarpBarrier();  // and the slot that is refilled next was read by all lanes
      copy_next();
      const Record<kForm> weights = {ring + slot * RecordBytes(kForm), lane};
      if (++slot == n_slots) slot = 0;
#pragma unroll(kBlocksAtOnce)
      for (int block = 0; block < Record<kForm>::kBlocks; ++block) {
        BlockFragments<kForm> fragments;
        fragments.Read(weights, block);
        const int k = record * RecordInputs(kForm) + block * kBlockInputs;
        const uint16_t* x_block = x_part + (k - first_record * RecordInputs(kForm));
#pragma unroll
        for (int tile = 0; tile < kTokenTiles; ++tile) {
          if (tile >= token_tiles) continue;
          uint32_t b[2][2];
          if (staged) {
            const int row = tile * 8 + (tile + 1 < token_tiles ? g : last_row);
            InputFragments<kForm>(x_block + row * division.x_pitch, t, b);
          } else {
            LoadInputFragments<kForm>(p, tile * 8 + g, k, t, b);
          }
          float x_sum[2];
          if constexpr (Record<kForm>::kMinimum) SumInputs(b, x_sum);
          fragments.MultiplyAdd(b, x_sum, sum[tile]);
        }
      }
    }

    if (split) {
      const SplitStrip<kTokens> parts(p.split, strips, turn, strip_of_turn);
      parts.WaitForPlace();
#pragma unroll
      for (int tile = 0; tile < kTokenTiles; ++tile) {
        if (tile < token_tiles) parts.Store(part, tile, sum[tile]);
      }
      if (parts.Arrive(adapters ? kKParts + 1 : kKParts)) {
        FinishSplitStrip<kForm, kTokens>(p, parts, strip, adapters);
      }
      continue;
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
    NamedBarrier(kProductBarrier, kProductThreads);
    AddParts<kForm>(p, strip, sums, old, &late[kLate]);
    if (!adapters) {
      StoreStrip(p, strip, late[kLate], nullptr);
      continue;
    }
    if (turn >= kLate) store_late(turn - kLate, late[0]);
#pragma unroll
    for (int i = 0; i < kLate; ++i) late[i] = late[i + 1];
  }
  if (split || !adapters) return;
#pragma unroll
  for (int i = 0; i < kLate; ++i) {
    if (turn - kLate + i >= 0) store_late(turn - kLate + i, late[i]);
  }
}

template <WeightForm kForm, int kTokenTiles>
void Run(const LinearProduct& product, const SmallDivision& division, cudaStream_t stream) {
  const int n_threads = kProductThreads + (product.adapters ? kAdapterThreads : 0);
  Launch(LinearSmallKernel<kForm, kTokenTiles>, static_cast<unsigned>(division.columns * division.groups),
         static_cast<unsigned>(n_threads), division.bytes, stream, product, division);
}

SmallShape ShapeOf(const LinearProduct& product, int n_processors) {
  SmallShape shape;
  shape.form = product.w.form;
  shape.n_out = product.w.n_out;
  shape.n_in = product.w.n_in;
  shape.rows = product.rows;
  shape.adapters = product.adapters;
  shape.split_tokens = product.split.sums != nullptr ? product.split.tokens : 0;
  shape.n_processors = n_processors;
  shape.shared_limit = SharedMemoryLimit();
  return shape;
}

void LinearSmallWindow(const LinearProduct& product, const SmallDivision& division, cudaStream_t stream) {
  WithForm(product.w.form, [&](auto form) {
    if (product.rows <= kFewRows) {
      Run<form, kFewRows / 8>(product, division, stream);
    } else {
      Run<form, kSmallRows / 8>(product, division, stream);
    }
    return true;
  });
}

}  // namespace

void LinearSmall(const LinearProduct& product, int n_processors, cudaStream_t stream, int groups) {
  const SmallShape shape = ShapeOf(product, n_processors);
  LinearProduct window = product;
  const int rows_of_window = groups > 0 ? product.rows : RowsOfSmallWindow(shape);
  for (int row = 0; row < product.rows; row += rows_of_window) {
    window.x = product.x + row * product.w.n_in;
    window.y = product.y + row * product.y_pitch;
    window.first_row = product.first_row + row;
    window.rows = std::min(product.rows - row, rows_of_window);
    SmallShape of_window = shape;
    of_window.rows = window.rows;
    LinearSmallWindow(window, DivideSmall(of_window, groups), stream);
    window.shrink = false;  // t is there for the next one
  }
}

}  // namespace coterie::cuda
