#ifndef COTERIE_KERNELS_CUDA_WEIGHT_AT_H_
#define COTERIE_KERNELS_CUDA_WEIGHT_AT_H_

#include "kernels/cuda/device_code.h"
#include "kernels/cuda/matrix.h"

namespace coterie::cuda {

__device__ inline uint32_t WordAt(const uint8_t* at) { return *reinterpret_cast<const uint32_t*>(at); }
__device__ inline float HalfAt(const uint8_t* at) {
  return HalfToFloat(*reinterpret_cast<const uint16_t*>(at));
}
// E4M3 has a bias of 7 where bfloat16 has 127.
__device__ inline float Fp8ToFloat(uint32_t code) {
  return FloatOfBits((code & 0x80u) << 24 | (code & 0x7Fu) << 20) * 0x1p120f;
}

// One weight, dequantised: of output `out` of the segment (counted from its first) at input `k`. For ops that
// read few of them, such as the rows of an embedding table.
__device__ inline float WeightAt(const WeightSegment& w, int64_t out, int64_t k) {
  const WeightForm form = w.form;
  if (LiesInRows(form)) {
    const int64_t pitch = PaddedInputs(form, w.n_in);
    const auto* rows = reinterpret_cast<const uint16_t*>(w.codes);
    if (form == WeightForm::kF16) return HalfToFloat(rows[out * pitch + k]);
    const float high = Bf16ToFloat(rows[out * pitch + k]);
    if (form == WeightForm::kBf16) return high;
    return high + Bf16ToFloat(rows[(Strips(w.n_out) * kStripOutputs + out) * pitch + k]);
  }
  const int record_inputs = RecordInputs(form), m = static_cast<int>(out % kStripOutputs);
  const uint8_t* record =
      w.codes + (out / kStripOutputs * Records(form, w.n_in) + k / record_inputs) * RecordBytes(form);
  const uint8_t* scales = record + CodeBytes(form);
  const CodePlace place = PlaceOf(form, m, static_cast<int>(k % record_inputs));
  const int block = place.block;
  if (form == WeightForm::kFp8) return w.output_scales[out] * Fp8ToFloat(record[CodeByte8(place)]);
  if (form == WeightForm::kCodes8) {
    const float code = static_cast<float>(static_cast<int8_t>(record[CodeByte8(place)]));
    return HalfAt(scales + m * 8 + block * 2) * code;
  }
  const auto nibble = static_cast<int>(WordAt(record + NibbleWord(place)) >> NibbleBit(place) & 15u);
  const auto with_fifth_bit = [&] {
    return nibble + static_cast<int>(WordAt(record + FifthWord(place)) >> FifthBit(place) & 1u) * 16;
  };
  const auto with_minimum = [&](int code) {
    return HalfAt(scales + m * 16 + block * 2) * static_cast<float>(code) +
           HalfAt(scales + m * 16 + 8 + block * 2);
  };
  switch (form) {
    case WeightForm::kCodes4:
      return HalfAt(scales + m * 8 + block * 2) * static_cast<float>(nibble - 8);
    case WeightForm::kCodes5:
      return HalfAt(scales + m * 8 + block * 2) * static_cast<float>(with_fifth_bit() - 16);
    case WeightForm::kCodes4Min:
      return with_minimum(nibble);
    case WeightForm::kCodes5Min:
      return with_minimum(with_fifth_bit());
    case WeightForm::kQ4K:
    case WeightForm::kQ5K: {
      const int code = form == WeightForm::kQ4K ? nibble : with_fifth_bit();
      const uint32_t high = *reinterpret_cast<const uint16_t*>(scales + FactorsHigh(m));
      const uint32_t factors = FactorsOfBlock(WordAt(scales + FactorsLow(m)), high, block);
      const uint8_t* super = scales + SuperScales(m);
      const float d = HalfAt(super) * static_cast<float>(ScaleFactor(factors));
      return d * static_cast<float>(code) - HalfAt(super + 2) * static_cast<float>(MinimumFactor(factors));
    }
    default: {  // kQ6K
      const int code =
          nibble + static_cast<int>(WordAt(record + SixthWord(place)) >> SixthBit(place) & 3u) * 16 - 32;
      const auto s = static_cast<int8_t>(scales[m * 8 + block * 2 + place.reg / 2]);
      const float d = HalfAt(scales + kStripOutputs * 8 + m * 2) * static_cast<float>(s);
      return d * static_cast<float>(code);
    }
  }
}

}  // namespace coterie::cuda

#endif  // COTERIE_KERNELS_CUDA_WEIGHT_AT_H_
