#include <algorithm>
#include <type_traits>

#include "common/check.h"
#include "kernels/cuda/fast_kernels.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/linear_forms.h"
#include "kernels/cuda/linear_product.h"

// Weights from records to rows of bfloat16. Each record is read once and its values are written once, and
// that is all the time it takes: of 4-bit codes some 0.56 bytes in and 2 out. A warp copies its next record
// to shared memory while it unpacks one. Lanes write 16 bytes each, four of them 64 in a row (kQ6K: 8 and
// 32): whole sectors, though not whole lines, which the next block of the record fills.
namespace coterie::cuda {
namespace {

constexpr int kUnpackWarps = 8;
constexpr int kUnpackBlocksEach = 4;  // a multiprocessor: 32 warps, a record of 1 to 2 KB under way in each

template <WeightForm kForm>
__device__ inline void UnpackRecord(const WeightSegment& w, int64_t strip, const unsigned char* record,
                                    uint16_t* to, int64_t pitch) {
  const int lane = LaneId(), g = lane / 4, t = lane % 4;
#pragma unroll 1
  for (int block = 0; block < Record<kForm>::kBlocks; ++block) {
    BlockFragments<kForm> fragments;
    fragments.Read({record, lane}, block);
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      float scale = 1, minimum = 0;
      if constexpr (kForm == WeightForm::kFp8) {
        const int64_t output = strip * kStripOutputs + g + 8 * h;
        scale = output < w.n_out ? w.output_scales[output] : 0.0f;
      }
      if constexpr (Record<kForm>::kMinimum) minimum = fragments.m[h];
      uint32_t pairs[4];
#pragma unroll
      for (int r = 0; r < 4; ++r) {
        if constexpr (Record<kForm>::kScaled) scale = fragments.d[Record<kForm>::kHalves ? r / 2 : 0][h];
        const uint32_t codes = fragments.a[0] /* the nearest bfloat16 of kF16 */[r / 2][r % 2 * 2 + h];
        pairs[r] = PackBf16(Fma(scale, LowBf16(codes), minimum), Fma(scale, HighBf16(codes), minimum));
      }
      uint16_t* const row = to + (g + 8 * h) * pitch + block * kBlockInputs;
      if constexpr (kForm == WeightForm::kQ6K) {  // see PlaceOf
        *reinterpret_cast<uint2*>(row + 4 * t) = {pairs[0], pairs[1]};
        *reinterpret_cast<uint2*>(row + 16 + 4 * t) = {pairs[2], pairs[3]};
      } else {
        *reinterpret_cast<uint4*>(row + 8 * t) = {pairs[0], pairs[1], pairs[2], pairs[3]};
      }
    }
  }
}

template <WeightForm kForm>
__global__ void __launch_bounds__(kUnpackWarps* kWarpLanes)
    UnpackKernel(WeightSegment w, int64_t first_strip, int64_t n_strips, uint16_t* to, int64_t pitch) {
  unsigned char* const slots = SharedMemory<unsigned char>() + WarpId() * (2 * RecordBytes(kForm));
  const int64_t n_records = Records(kForm, w.n_in), n_items = n_strips * n_records;
  const int64_t n_warps = static_cast<int64_t>(gridDim.x) * kUnpackWarps;
  const int64_t first = static_cast<int64_t>(blockIdx.x) * kUnpackWarps + WarpId();
  const auto copy = [&](int64_t item, int slot) {
    if (item < n_items) {
      CopyRecord<kForm>(w, first_strip + item / n_records, item % n_records, LaneId(),
                        slots + slot * RecordBytes(kForm));
    }
    CommitCopies();
  };
  copy(first, 0);
  int slot = 0;
  for (int64_t item = first; item < n_items; item += n_warps) {
    copy(item + n_warps, 1 - slot);
    WaitCopies<1>();
    WarpBarrier();  // each lane's copies are there for all
    const int64_t strip = item / n_records, record = item % n_records;
    UnpackRecord<kForm>(w, first_strip + strip, slots + slot * RecordBytes(kForm),
                        to + strip * kStripOutputs * pitch + record * RecordInputs(kForm), pitch);
    WarpBarrier();  // all have read what is copied over next
    slot = 1 - slot;
  }
}

template <WeightForm kForm>
bool RunUnpack(const WeightSegment& w, int64_t first_strip, int64_t n_strips, uint16_t* to, int n_processors,
               cudaStream_t stream) {
  static_assert(size_t{kUnpackWarps} * 2 * RecordBytes(kForm) <= kLeastSharedBytes);
  const int64_t n_items = n_strips * Records(kForm, w.n_in);
  const int64_t blocks =
      std::min<int64_t>((n_items + kUnpackWarps - 1) / kUnpackWarps, n_processors * kUnpackBlocksEach);
  Launch(UnpackKernel<kForm>, static_cast<unsigned>(blocks), kUnpackWarps * kWarpLanes,
         size_t{kUnpackWarps} * 2 * RecordBytes(kForm), stream, w, first_strip, n_strips, to,
         UnpackedPitch(w));
  return true;
}

}  // namespace

void UnpackStrips(const WeightSegment& w, int64_t first_strip, int64_t n_strips, uint16_t* to,
                  int n_processors, cudaStream_t stream) {
  COTERIE_CHECK(!IsRowMajor(w.form));
  WithForm(w.form, [&](auto form) {
    if constexpr (!IsRowMajor(form)) {
      return RunUnpack<form>(w, first_strip, n_strips, to, n_processors, stream);
    }
    return false;
  });
}

}  // namespace coterie::cuda
