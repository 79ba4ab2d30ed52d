#ifndef COTERIE_KERNELS_CUDA_LINEAR_FORMS_H_
#define COTERIE_KERNELS_CUDA_LINEAR_FORMS_H_

#include "kernels/cuda/device_code.h"
#include "kernels/cuda/matrix.h"

// How a warp copies records of weights (weight_layout.h) to shared memory and turns them into fragments of
// mma.m16n8k16. Integer codes of up to 8 bits, and E4M3, are exact in bfloat16.
namespace coterie::cuda {

// One record in shared memory, as this lane sees it: lane = 4 g + t holds outputs g and g + 8.
template <WeightForm kForm>
struct Record {
  static constexpr int kBlocks = RecordInputs(kForm) / kBlockInputs;
  static constexpr int kBytes = RecordBytes(kForm);
  static constexpr bool kScaled = IsQuantised(kForm);         // blocks have scales
  static constexpr bool kHalves = kForm == WeightForm::kQ6K;  // and so has each half of a block
  static constexpr bool kMinimum = kForm == WeightForm::kCodes5Min || kForm == WeightForm::kCodes4Min ||
                                   kForm == WeightForm::kQ4K || kForm == WeightForm::kQ5K;
  static constexpr bool kFiveBits =
      kForm == WeightForm::kCodes5 || kForm == WeightForm::kCodes5Min || kForm == WeightForm::kQ5K;
  // Planes of products that add up: two of kPair, which are stored, and of kF16, which are computed.
  static constexpr int kPlanes = kForm == WeightForm::kPair || kForm == WeightForm::kF16 ? 2 : 1;

  const unsigned char* data;
  int lane;

  __device__ uint4 Piece(int i) const { return *reinterpret_cast<const uint4*>(data + i * 512 + lane * 16); }
  __device__ uint32_t Word(int byte) const { return *reinterpret_cast<const uint32_t*>(data + byte); }

  // Fragments of block `block`: a[i] for its i-th mma.
  __device__ void Fragments(int block, int plane, uint32_t (&a)[2][4]) const;
  // d and m of the block's scales for outputs g and g + 8; d of both halves of the block.
  __device__ void Scales(int block, float (&d)[2][2], float (&m)[2]) const;
};

// Registers r = 0..3 of outputs g (h = 0) and g + 8 in the order of two mma's fragments.
#define COTERIE_FRAGMENT(r, h) a[(r) / 2][(r) % 2 * 2 + (h)]

// Codes of 8 bits with a sign: 128 + the lower seven bits, less 128 or 256.
__device__ inline uint32_t SignedBytesToBf16(uint32_t word) {
  const uint32_t value = (word & 0x007F007Fu) | 0x43004300u;
  const uint32_t less = (word & 0x00800080u) | 0x43004300u;
  return FmaBf16Pairs(less, 0xBF80BF80u, value);  // value - less
}
// Two codes of up to 7 bits, less the bfloat16 that `less` (negative) has twice: 128 and more.
__device__ inline uint32_t SmallCodesToBf16(uint32_t codes, uint32_t less) {
  return FmaBf16Pairs(codes | 0x43004300u, 0x3F803F80u, less);
}
// E4M3 in the even bytes, scaled up from the exponents of bfloat16.
__device__ inline uint32_t Fp8PairToBf16(uint32_t word) {
  const uint32_t bits = (word & 0x00800080u) << 8 | (word & 0x007F007Fu) << 4;
  return FmaBf16Pairs(bits, 0x7B807B80u, 0x80008000u);  // · 2^120, - 0
}
// The nearest bfloat16 of two binary16 (plane 0), or what is left of them (plane 1): each value is the sum of
// the two. Infinities and NaN are in the first alone.
__device__ inline uint32_t HalfPairToBf16(uint32_t pair, int plane) {
  const float low = HalfToFloat(static_cast<uint16_t>(pair)),
              high = HalfToFloat(static_cast<uint16_t>(pair >> 16));
  const uint32_t nearest = PackBf16(low, high);
  if (plane == 0) return nearest;
  const float low_rest = low - LowBf16(nearest), high_rest = high - HighBf16(nearest);
  return PackBf16(fabsf(low_rest) < 1e38f ? low_rest : 0.0f, fabsf(high_rest) < 1e38f ? high_rest : 0.0f);
}
// A number of up to 23 bits: one instruction where it is still to be cut out of others, and a sum.
__device__ inline float SmallToFloat(uint32_t number) { return FloatOfBits(0x4B000000u | number) - 0x1p23f; }

template <WeightForm kForm>
__device__ void Record<kForm>::Fragments(int block, int plane, uint32_t (&a)[2][4]) const {
  constexpr uint32_t kNibbles = 0x000F000Fu;
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    if constexpr (LiesInRows(kForm)) {
      const uint4 v = Piece((StoredPlanes(kForm) == 1 ? 0 : plane) * 4 + h * 2 + block);
      const uint32_t words[4] = {v.x, v.y, v.z, v.w};
#pragma unroll
      for (int r = 0; r < 4; ++r) {
        COTERIE_FRAGMENT(r, h) = kForm == WeightForm::kF16 ? HalfPairToBf16(words[r], plane) : words[r];
      }
    } else if constexpr (CodeBytes(kForm) == 2048) {
      const uint2 v =
          *reinterpret_cast<const uint2*>(data + (h * 2 + block / 2) * 512 + lane * 16 + block % 2 * 8);
      const uint32_t words[4] = {v.x, v.x >> 8, v.y, v.y >> 8};
#pragma unroll
      for (int r = 0; r < 4; ++r) {
        COTERIE_FRAGMENT(r, h) =
            kForm == WeightForm::kFp8 ? Fp8PairToBf16(words[r]) : SignedBytesToBf16(words[r]);
      }
    } else {
      const uint32_t nibbles = Word(h * 512 + lane * 16 + block * 4);
#pragma unroll
      for (int r = 0; r < 4; ++r) {
        uint32_t codes = nibbles >> 4 * r & kNibbles;
        uint32_t less = 0xC300C300u;                                     // -128
        if constexpr (kForm == WeightForm::kCodes4) less = 0xC308C308u;  // -136
        if constexpr (kForm == WeightForm::kCodes5) less = 0xC310C310u;  // -144
        if constexpr (kFiveBits) {
          codes |= (Word(1024 + lane * 8 + h * 4) >> (4 * block + r) & 0x00010001u) << 4;
        }
        if constexpr (kForm == WeightForm::kQ6K) {
          const uint32_t pairs = Word(1024 + lane * 16 + (h * 2 + block / 2) * 4);
          codes |= (pairs >> (8 * (block % 2) + 2 * r) & 0x00030003u) << 4;
          less = 0xC320C320u;  // -160
        }
        COTERIE_FRAGMENT(r, h) = SmallCodesToBf16(codes, less);
      }
    }
  }
}
#undef COTERIE_FRAGMENT

template <WeightForm kForm>
__device__ void Record<kForm>::Scales(int block, float (&d)[2][2], float (&m)[2]) const {
  const unsigned char* scales = data + CodeBytes(kForm);
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    const int output = lane / 4 + 8 * h;
    [[maybe_unused]] const auto half = [&](int byte) {
      return HalfToFloat(*reinterpret_cast<const uint16_t*>(scales + byte));
    };
    if constexpr (kForm == WeightForm::kQ6K) {
      const float super = half(kStripOutputs * 8 + output * 2);
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        const auto s = static_cast<signed char>(scales[output * 8 + block * 2 + i]);
        d[i][h] = super * static_cast<float>(s);
      }
    } else if constexpr (kForm == WeightForm::kQ4K || kForm == WeightForm::kQ5K) {
      const uint32_t low = Word(CodeBytes(kForm) + FactorsLow(output));
      const uint32_t high = *reinterpret_cast<const uint16_t*>(scales + FactorsHigh(output));
      const uint32_t super = Word(CodeBytes(kForm) + SuperScales(output));
      const uint32_t factors = FactorsOfBlock(low, high, block);
      d[0][h] = HalfToFloat(static_cast<uint16_t>(super)) * SmallToFloat(ScaleFactor(factors));
      m[h] = -(HalfToFloat(static_cast<uint16_t>(super >> 16)) * SmallToFloat(MinimumFactor(factors)));
    } else if constexpr (kMinimum) {
      d[0][h] = half(output * 16 + block * 2);
      m[h] = half(output * 16 + 8 + block * 2);
    } else {
      d[0][h] = half(output * 8 + block * 2);
    }
  }
}

// Starts copying record `record` of strip `strip` to `to`, 16 bytes a lane at a time.
template <WeightForm kForm>
__device__ inline void CopyRecord(const WeightSegment& w, int64_t strip, int64_t record, int lane,
                                  unsigned char* to) {
  if constexpr (LiesInRows(kForm)) {
    const int64_t pitch = PaddedInputs(kForm, w.n_in) * 2;  // bytes
    const uint8_t* from = w.codes + (strip * kStripOutputs + lane / 4) * pitch +
                          record * (RecordInputs(kForm) * 2) + lane % 4 * 16;
#pragma unroll
    for (int plane = 0; plane < StoredPlanes(kForm); ++plane) {
#pragma unroll
      for (int piece = 0; piece < 4; ++piece) {
        CopyAsync16(to + (plane * 4 + piece) * 512 + lane * 16,
                    from + piece / 2 * 8 * pitch + piece % 2 * 64);
      }
      from += Strips(w.n_out) * kStripOutputs * pitch;
    }
  } else {
    constexpr int kPieces = RecordBytes(kForm) / 16;
    const uint8_t* from = w.codes + (strip * Records(kForm, w.n_in) + record) * RecordBytes(kForm);
#pragma unroll
    for (int piece = 0; piece < kPieces; piece += kWarpLanes) {
      if (piece + lane < kPieces) CopyAsync16(to + (piece + lane) * 16, from + (piece + lane) * 16);
    }
  }
}

// The inputs that belong to a block's fragments, x[k] to x[k + 31] of a token: b[i] for its i-th mma. `x`
// points to x[k] in shared memory, aligned to 16 bytes. Rows of tokens are kInputPad values longer than a
// multiple of 128 bytes: of the lanes that are served at a time, eight (kQ6K: sixteen), no two then meet in a
// bank.
constexpr int InputPad(WeightForm form) { return form == WeightForm::kQ6K ? 16 : 32; }  // see InputFragments
template <WeightForm kForm>
constexpr int kInputPad = InputPad(kForm);
template <WeightForm kForm>
__device__ inline void InputFragments(const uint16_t* x, int t, uint32_t (&b)[2][2]) {
  if constexpr (kForm == WeightForm::kQ6K) {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const uint2 v = *reinterpret_cast<const uint2*>(x + 16 * i + 4 * t);
      b[i][0] = v.x;
      b[i][1] = v.y;
    }
  } else {
    const uint4 v = *reinterpret_cast<const uint4*>(x + 8 * t);
    b[0][0] = v.x;
    b[0][1] = v.y;
    b[1][0] = v.z;
    b[1][1] = v.w;
  }
}

// Sums of a block's inputs over K, of tokens 2 t and 2 t + 1 of 8: rows of ones give them to the lane that
// needs them.
__device__ inline void SumInputs(const uint32_t (&b)[2][2], float (&x_sum)[2]) {
  constexpr uint32_t kOnes = 0x3F803F80u;
  const uint32_t ones[4] = {kOnes, kOnes, kOnes, kOnes};
  float sum[4] = {0, 0, 0, 0};
  MmaBf16(sum, ones, b[0]);
  MmaBf16(sum, ones, b[1]);
  x_sum[0] = sum[0];
  x_sum[1] = sum[1];
}

// A block of weights of 16 outputs. Adds its product with 8 tokens to `sum`, in the one order that all
// products use: two mma in a row; of scaled blocks from zero, then scaled in float32, then the minimum times
// the block's sum of x.
template <WeightForm kForm>
struct BlockFragments {
  uint32_t a[Record<kForm>::kPlanes][2][4];
  float d[2][2], m[2];

  __device__ void Read(const Record<kForm>& record, int block) {
#pragma unroll
    for (int plane = 0; plane < Record<kForm>::kPlanes; ++plane) record.Fragments(block, plane, a[plane]);
    if constexpr (Record<kForm>::kScaled) record.Scales(block, d, m);
  }
  // x_sum is read where the form has a minimum.
  __device__ void MultiplyAdd(const uint32_t (&b)[2][2], const float (&x_sum)[2], float (&sum)[4]) const {
    if constexpr (!Record<kForm>::kScaled) {
#pragma unroll
      for (int plane = 0; plane < Record<kForm>::kPlanes; ++plane) {
        MmaBf16(sum, a[plane][0], b[0]);
        MmaBf16(sum, a[plane][1], b[1]);
      }
    } else if constexpr (Record<kForm>::kHalves) {
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        float part[4] = {0, 0, 0, 0};
        MmaBf16(part, a[0][i], b[i]);
#pragma unroll
        for (int j = 0; j < 4; ++j) sum[j] = Fma(d[i][j / 2], part[j], sum[j]);
      }
    } else {
      float part[4] = {0, 0, 0, 0};
      MmaBf16(part, a[0][0], b[0]);
      MmaBf16(part, a[0][1], b[1]);
#pragma unroll
      for (int j = 0; j < 4; ++j) sum[j] = Fma(d[0][j / 2], part[j], sum[j]);
      if constexpr (Record<kForm>::kMinimum) {
#pragma unroll
        for (int j = 0; j < 4; ++j) sum[j] = Fma(m[j / 2], x_sum[j % 2], sum[j]);
      }
    }
  }
};

// The order of summation over K, for every kernel and any number of rows: K is cut into kKParts parts of
// whole records, as equal as can be; a part is summed record by record; the parts are added in order.
constexpr int kKParts = 8;
__host__ __device__ constexpr int64_t FirstRecordOfPart(int64_t n_records, int part) {
  return n_records * part / kKParts;
}

}  // namespace coterie::cuda

#endif  // COTERIE_KERNELS_CUDA_LINEAR_FORMS_H_
