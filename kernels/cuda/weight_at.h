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
  if (IsRowMajor(form)) {
    const int64_t pitch = PaddedInputs(form, w.n_in);
    const auto* rows = reinterpret_cast<const uint16_t*>(w.codes);
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
  if (form == WeightForm::kCodes8 || form == WeightForm::kCodes8Min) {
    const float code = static_cast<float>(static_cast<int8_t>(record[CodeByte8(place)]));
    if (form == WeightForm::kCodes8) return HalfAt(scales + m * 8 + block * 2) * code;
    return HalfAt(scales + m * 16 + block * 2) * code + HalfAt(scales + m * 16 + 8 + block * 2);
  }
  const auto nibble = static_cast<int>(WordAt(record + NibbleWord(place)) >> NibbleBit(place) & 15u);
  switch (form) {
    case WeightForm::kCodes4:
      return HalfAt(scales + m * 8 + block * 2) * static_cast<float>(nibble - 8);
    case WeightForm::kCodes4Min:
      return HalfAt(scales + m * 16 + block * 2) * static_cast<float>(nibble) +
             HalfAt(scales + m * 16 + 8 + block * 2);
    case WeightForm::kQ4K:
    case WeightForm::kQ5K: {
      int code = nibble;
      if (form == WeightForm::kQ5K) {
        code += static_cast<int>(WordAt(record + FifthWord(place)) >> FifthBit(place) & 1u) * 16;
      }
      const uint8_t* s = scales + m * 12;
      const float d = HalfAt(s + 8) * static_cast<float>(s[block]);
      return d * static_cast<float>(code) - HalfAt(s + 10) * static_cast<float>(s[4 + block]);
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
