#include "kernels/cpu/panels.h"

#include <cstring>

#include "kernels/formats/block_codes.h"
#include "kernels/formats/half.h"
#include "kernels/host_matrix.h"

namespace coterie::cpu {
namespace {

// Rounds up so that every segment begins at a cache line.
int64_t LineBytes(int64_t n_bytes) { return (n_bytes + 63) / 64 * 64; }

// The byte, counted from the end of the scales, with the code of lane `lane` at k of a block; two 4-bit codes
// share a byte.
int CodeByte(int lane, int k) { return 64 * (k / 4) + 4 * lane + k % 4; }

bool HasNibbles(PanelKind kind) {
  return kind == PanelKind::kQ4_1 || kind == PanelKind::kQ4_0 || kind == PanelKind::kQ4F;
}

int ScaleBytes(PanelKind kind) {
  switch (kind) {
    case PanelKind::kQ4_1:
      return 64;
    case PanelKind::kQ4_0:
    case PanelKind::kQ8_0:
      return 32;
    default:
      return 128;
  }
}

void WriteBlock(PanelKind kind, const BlockCodes& from, int lane, uint8_t* block) {
  switch (kind) {
    case PanelKind::kQ4_1:
      std::memcpy(block + 32 + 2 * lane, &from.m_half, 2);
      [[fallthrough]];
    case PanelKind::kQ4_0:
    case PanelKind::kQ8_0:
      std::memcpy(block + 2 * lane, &from.d_half, 2);
      break;
    case PanelKind::kQ6_K:
      std::memcpy(block + 4 * lane, &from.d[0], 4);
      std::memcpy(block + 64 + 4 * lane, &from.d[1], 4);
      break;
    default:
      std::memcpy(block + 4 * lane, &from.d[0], 4);
      std::memcpy(block + 64 + 4 * lane, &from.m, 4);
  }
  uint8_t* codes = block + ScaleBytes(kind);
  if (HasNibbles(kind)) {
    for (int k = 0; k < 16; ++k) {
      codes[CodeByte(lane, k)] = static_cast<uint8_t>(from.code[k] | from.code[k + 16] << 4);
    }
  } else {
    for (int k = 0; k < 32; ++k) codes[CodeByte(lane, k)] = from.code[k];
  }
}

float ReadFloat(DType dtype, const uint8_t* row, int64_t k) {
  switch (dtype) {
    case DType::kF32:
      return BitsToFloat(LoadU32(row + 4 * k));
    case DType::kF16:
      return HalfToFloat(LoadU16(row + 2 * k));
    default:
      return Bf16ToFloat(LoadU16(row + 2 * k));
  }
}

void PackRow(const HostMatrix& part, const uint8_t* source, PanelKind kind, int64_t output, uint8_t* panels) {
  const int lane = static_cast<int>(output % kPanelOutputs);
  uint8_t* panel = panels + output / kPanelOutputs * PanelBytes(kind, part.n_in);
  if (IsQuantised(kind)) {
    const int64_t n_blocks = part.n_in / kPanelBlock;
    const int64_t block_bytes = PanelBytes(kind, kPanelBlock);
    for (int64_t b = 0; b < n_blocks; ++b) {
      WriteBlock(kind, ReadBlock(part.dtype, source, b), lane, panel + b * block_bytes);
    }
    return;
  }
  const int size = kind == PanelKind::kF32 ? 4 : 2;
  for (int64_t k = 0; k < part.n_in; ++k) {
    std::memcpy(panel + (k * kPanelOutputs + lane) * size, source + k * size, static_cast<size_t>(size));
  }
}

}  // namespace

PanelKind PanelKindOf(DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return PanelKind::kF32;
    case DType::kF16:
      return PanelKind::kF16;
    case DType::kBF16:
      return PanelKind::kBF16;
    case DType::kQ8_0:
    case DType::kQ5_0:
      return PanelKind::kQ8_0;
    case DType::kQ4_0:
      return PanelKind::kQ4_0;
    case DType::kQ4_1:
      return PanelKind::kQ4_1;
    case DType::kQ4_K:
      return PanelKind::kQ4F;
    case DType::kQ5_1:
    case DType::kQ5_K:
      return PanelKind::kQ8F;
    case DType::kQ6_K:
      return PanelKind::kQ6_K;
  }
  return PanelKind::kF32;
}

CpuMatrix::CpuMatrix(std::span<const HostMatrix> parts) : n_in_(parts.front().n_in) {
  for (const HostMatrix& part : parts) {
    // Parts of one kind share a segment, so that tiles run across their borders.
    const PanelKind kind = PanelKindOf(part.dtype);
    if (segments_.empty() || segments_.back().kind != kind) {
      PanelSegment& segment = segments_.emplace_back();
      segment.kind = kind;
      segment.out_begin = n_out_;
      (IsQuantised(kind) ? any_quantised_ : any_float_) = true;
    }
    segments_.back().n_out += part.n_out;
    n_out_ += part.n_out;
  }
  for (const PanelSegment& segment : segments_) n_panels_ += segment.n_panels();
}

StatusOr<std::unique_ptr<CpuMatrix>> CpuMatrix::Pack(std::span<const HostMatrix> parts) {
  RETURN_IF_ERROR(CheckMatrixParts(parts));
  auto matrix = std::unique_ptr<CpuMatrix>(new CpuMatrix(parts));
  for (PanelSegment& segment : matrix->segments_) {
    const auto n_bytes = static_cast<size_t>(matrix->SegmentBytes(segment));
    segment.owned = AlignedBuffer(n_bytes);
    segment.panels = segment.owned.data();
    if (segment.panels == nullptr) {
      return absl::ResourceExhaustedError(
          absl::StrCat("no memory for ", n_bytes, " bytes of packed weights"));
    }
  }
  matrix->Fill(parts);
  return matrix;
}

int64_t CpuMatrix::LentBytes(std::span<const HostMatrix> parts) {
  const CpuMatrix matrix(parts);
  int64_t total = 0;
  for (const PanelSegment& segment : matrix.segments_) total += LineBytes(matrix.SegmentBytes(segment));
  return total;
}

std::unique_ptr<CpuMatrix> CpuMatrix::Over(std::span<const HostMatrix> parts, uint8_t* memory) {
  auto matrix = std::unique_ptr<CpuMatrix>(new CpuMatrix(parts));
  for (PanelSegment& segment : matrix->segments_) {
    segment.panels = memory;
    memory += LineBytes(matrix->SegmentBytes(segment));
  }
  return matrix;
}

void CpuMatrix::Fill(std::span<const HostMatrix> parts) {
  const PanelSegment* segment = segments_.data();
  int64_t output = 0;  // of the segment
  for (const HostMatrix& part : parts) {
    if (output == segment->n_out) {
      ++segment;
      output = 0;
    }
    const int64_t row_bytes = RowBytes(part.dtype, part.n_in);
    for (int64_t row = 0; row < part.n_out; ++row) {
      const int64_t source = part.row_order.empty() ? row : part.row_order[static_cast<size_t>(row)];
      PackRow(part, part.data + source * row_bytes, segment->kind, output++, segment->panels);
    }
  }
}

size_t CpuMatrix::bytes() const {
  int64_t total = 0;
  for (const PanelSegment& segment : segments_) total += SegmentBytes(segment);
  return static_cast<size_t>(total);
}

void CpuMatrix::DequantiseRow(int64_t row, float* to) const {
  const PanelSegment* segment = &segments_.front();
  while (row >= segment->out_begin + segment->n_out) ++segment;
  const int64_t output = row - segment->out_begin;
  const int lane = static_cast<int>(output % kPanelOutputs);
  const uint8_t* panel = segment->panels + output / kPanelOutputs * PanelBytes(segment->kind, n_in_);
  if (!IsQuantised(segment->kind)) {
    const DType dtype = segment->kind == PanelKind::kF32   ? DType::kF32
                        : segment->kind == PanelKind::kF16 ? DType::kF16
                                                           : DType::kBF16;
    for (int64_t k = 0; k < n_in_; ++k) to[k] = ReadFloat(dtype, panel, k * kPanelOutputs + lane);
    return;
  }
  const int64_t block_bytes = PanelBytes(segment->kind, kPanelBlock);
  for (int64_t b = 0; b < n_in_ / kPanelBlock; ++b, panel += block_bytes, to += kPanelBlock) {
    const uint8_t* codes = panel + ScaleBytes(segment->kind);
    float d[2];
    float m = 0;
    float offset = 0;
    switch (segment->kind) {
      case PanelKind::kQ4_1:
        m = ReadFloat(DType::kF16, panel + 32, lane);
        d[0] = d[1] = ReadFloat(DType::kF16, panel, lane);
        break;
      case PanelKind::kQ4_0:
      case PanelKind::kQ8_0:
        d[0] = d[1] = ReadFloat(DType::kF16, panel, lane);
        offset = segment->kind == PanelKind::kQ4_0 ? 8 : 128;
        break;
      case PanelKind::kQ6_K:
        d[0] = ReadFloat(DType::kF32, panel, lane);
        d[1] = ReadFloat(DType::kF32, panel + 64, lane);
        offset = 128;
        break;
      default:
        d[0] = d[1] = ReadFloat(DType::kF32, panel, lane);
        m = ReadFloat(DType::kF32, panel + 64, lane);
    }
    for (int k = 0; k < 32; ++k) {
      const int code = !HasNibbles(segment->kind) ? codes[CodeByte(lane, k)]
                       : k < 16                   ? codes[CodeByte(lane, k)] & 0x0f
                                                  : codes[CodeByte(lane, k - 16)] >> 4;
      to[k] = d[k / 16] * (static_cast<float>(code) - offset) + m;  // the product is exact
    }
  }
}

}  // namespace coterie::cpu
