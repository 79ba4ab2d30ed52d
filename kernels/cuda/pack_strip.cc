#include "kernels/cuda/pack_strip.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "absl/strings/str_cat.h"
#include "kernels/formats/block_codes.h"
#include "kernels/formats/dequantize.h"
#include "kernels/formats/fp8.h"
#include "kernels/formats/half.h"
#include "kernels/formats/quantize.h"

namespace coterie::cuda {
namespace {

void OrWord(uint8_t* at, uint32_t bits) {
  const uint32_t word = LoadU32(at) | bits;
  std::memcpy(at, &word, sizeof(word));
}

void OrHalf(uint8_t* at, uint16_t bits) {
  uint16_t half;
  std::memcpy(&half, at, sizeof(half));
  half |= bits;
  std::memcpy(at, &half, sizeof(half));
}

constexpr uint32_t kQ8Offset = 128;  // CodeOffset of Q5_0 and Q6_K

// The codes of 32 inputs of output `m`: block `block` of a record.
void PlaceCodes(WeightForm form, const BlockCodes& from, int offset, int m, int block, uint8_t* record) {
  for (int i = 0; i < kBlockInputs; ++i) {
    const CodePlace place = PlaceOf(form, m, block * kBlockInputs + i);
    const uint32_t code = from.code[i];
    switch (form) {
      case WeightForm::kCodes8:
        record[CodeByte8(place)] = static_cast<uint8_t>(static_cast<int>(code) - offset);
        break;
      case WeightForm::kCodes5:
      case WeightForm::kCodes5Min:
      case WeightForm::kQ5K: {
        const uint32_t five_bits = form == WeightForm::kCodes5 ? code + 16 - kQ8Offset : code;
        OrWord(record + FifthWord(place), (five_bits >> 4) << FifthBit(place));
        OrWord(record + NibbleWord(place), (five_bits & 15) << NibbleBit(place));
        break;
      }
      case WeightForm::kQ6K: {
        const uint32_t six_bits = code + 32 - kQ8Offset;
        OrWord(record + SixthWord(place), (six_bits >> 4) << SixthBit(place));
        OrWord(record + NibbleWord(place), (six_bits & 15) << NibbleBit(place));
        break;
      }
      default:
        OrWord(record + NibbleWord(place), code << NibbleBit(place));
    }
  }
}

void PlaceScales(WeightForm form, const BlockCodes& from, int m, int block, uint8_t* record) {
  uint8_t* const scales = record + CodeBytes(form);
  switch (form) {
    case WeightForm::kCodes8:
    case WeightForm::kCodes5:
    case WeightForm::kCodes4:
      std::memcpy(scales + m * 8 + block * 2, &from.d_half, 2);
      return;
    case WeightForm::kCodes5Min:
    case WeightForm::kCodes4Min:
      std::memcpy(scales + m * 16 + block * 2, &from.d_half, 2);
      std::memcpy(scales + m * 16 + 8 + block * 2, &from.m_half, 2);
      return;
    case WeightForm::kQ4K:
    case WeightForm::kQ5K: {
      const uint64_t factors =
          static_cast<uint64_t>(from.d_factor[0] & 63) | static_cast<uint64_t>(from.m_factor & 63) << 6;
      const uint64_t bits = factors << 12 * block;
      OrWord(scales + FactorsLow(m), static_cast<uint32_t>(bits));
      OrHalf(scales + FactorsHigh(m), static_cast<uint16_t>(bits >> 32));
      std::memcpy(scales + SuperScales(m), &from.d_half, 2);
      std::memcpy(scales + SuperScales(m) + 2, &from.m_half, 2);
      return;
    }
    default:  // kQ6K
      std::memcpy(scales + m * 8 + block * 2, from.d_factor, 2);
      std::memcpy(scales + kStripOutputs * 8 + m * 2, &from.d_half, 2);
  }
}

void PackBlocks(WeightForm form, DType dtype, const uint8_t* row, int64_t n_in, int m, uint8_t* records) {
  const int per_record = RecordInputs(form) / kBlockInputs;
  const int offset = CodeOffset(dtype);
  for (int64_t b = 0; b < n_in / kBlockInputs; ++b) {
    const BlockCodes codes = ReadBlock(dtype, row, b);
    uint8_t* const record = records + b / per_record * RecordBytes(form);
    const int block = static_cast<int>(b % per_record);
    PlaceCodes(form, codes, offset, m, block, record);
    PlaceScales(form, codes, m, block, record);
  }
}

// The upper half is the nearest bfloat16, but never an infinity of a finite value.
void SplitRow(std::span<const float> values, uint16_t* high, uint16_t* low) {
  for (size_t k = 0; k < values.size(); ++k) {
    high[k] = FloatToBf16(values[k]);
    if (std::isfinite(values[k]) && !std::isfinite(Bf16ToFloat(high[k]))) --high[k];
    const float rest = values[k] - Bf16ToFloat(high[k]);
    low[k] = std::isfinite(rest) ? FloatToBf16(rest) : 0;  // NaN and infinities are in the upper half
  }
}

Status PackFp8(std::span<const float> values, int m, uint8_t* records, float* scale) {
  float most = 0;
  for (const float v : values) most = std::fabs(v) <= most ? most : std::fabs(v);  // NaN stays
  if (!std::isfinite(most)) return absl::InvalidArgumentError("a weight is not finite");
  // The smallest scales would be subnormal, whose reciprocals are not exact enough: such rows are zeros.
  *scale = most < 0x1p-100f ? 0.0f : most / kMaxE4M3;
  constexpr WeightForm kForm = WeightForm::kFp8;
  for (size_t k = 0; k < values.size(); ++k) {
    uint8_t* const record = records + k / RecordInputs(kForm) * RecordBytes(kForm);
    const CodePlace place = PlaceOf(kForm, m, static_cast<int>(k % RecordInputs(kForm)));
    record[CodeByte8(place)] = *scale == 0 ? 0 : FloatToE4M3(values[k] / *scale);
  }
  return absl::OkStatus();
}

Status PackQ8(std::span<const float> values, int m, uint8_t* records) {
  const auto n = static_cast<int64_t>(values.size());
  std::vector<uint8_t> blocks(static_cast<size_t>(RowBytes(DType::kQ8_0, n)));
  RETURN_IF_ERROR(Quantize(DType::kQ8_0, values, blocks.data()));
  PackBlocks(WeightForm::kCodes8, DType::kQ8_0, blocks.data(), n, m, records);
  return absl::OkStatus();
}

Status PackRow(WeightForm form, const SourceRow& row, int64_t n_in, int m, const StripTarget& to) {
  if (BlockElements(row.dtype) != 1) {
    PackBlocks(form, row.dtype, row.data, n_in, m, to.codes);
    return absl::OkStatus();
  }
  const size_t at = static_cast<size_t>(m * PaddedInputs(form, n_in)) * sizeof(uint16_t);
  if (form == WeightForm::kBf16 || form == WeightForm::kF16) {
    std::memcpy(to.codes + at, row.data, static_cast<size_t>(n_in) * sizeof(uint16_t));
    return absl::OkStatus();
  }
  // Zeros behind the last value fill up a block.
  std::vector<float> values(static_cast<size_t>((n_in + kBlockInputs - 1) / kBlockInputs * kBlockInputs));
  Dequantize(row.dtype, row.data, n_in, values.data());
  switch (form) {
    case WeightForm::kPair:
      SplitRow({values.data(), static_cast<size_t>(n_in)}, reinterpret_cast<uint16_t*>(to.codes + at),
               reinterpret_cast<uint16_t*>(to.low_halves + at));
      return absl::OkStatus();
    case WeightForm::kFp8:
      return PackFp8({values.data(), static_cast<size_t>(n_in)}, m, to.codes, to.output_scales + m);
    default:
      return PackQ8(values, m, to.codes);
  }
}

}  // namespace

Status PackStrip(WeightForm form, std::span<const SourceRow> rows, int64_t n_in, const StripTarget& to) {
  for (size_t m = 0; m < rows.size(); ++m) {
    if (rows[m].data == nullptr) continue;
    const Status packed = PackRow(form, rows[m], n_in, static_cast<int>(m), to);
    if (!packed.ok()) return Annotate(packed, absl::StrCat("row ", m));
  }
  return absl::OkStatus();
}

}  // namespace coterie::cuda
