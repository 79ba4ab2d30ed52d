#include "kernels/cpu/panels.h"

#include <algorithm>
#include <cstring>

#include "common/check.h"
#include "common/memory.h"
#include "common/on_all_cores.h"
#include "common/quoted.h"
#include "kernels/formats/block_codes.h"
#include "kernels/formats/dequantize.h"
#include "kernels/formats/half.h"
#include "kernels/formats/quantize.h"
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

// Inputs of all rows of a panel that are written before the next ones, so that the lines of the panel that
// they share are still in the first cache: whole blocks of every type.
constexpr int64_t kPieceInputs = 512;
// Of panels, that one thread fetches and writes at a time.
constexpr int64_t kItemBytes = int64_t{2} << 20;
// Larger segments first ask whether there is so much memory (aligned_buffer.cc says why).
constexpr int64_t kCheckedBytes = int64_t{32} << 20;

struct SourceRow {
  const HostMatrix* part;
  int64_t index;  // in the file's order
  const uint8_t* data() const { return part->data + index * RowBytes(part->dtype, part->n_in); }
};

// Where output `output` of the parts, which stand side by side, comes from.
SourceRow SourceOf(std::span<const HostMatrix> parts, int64_t output) {
  const HostMatrix* part = parts.data();
  while (output >= part->n_out) output -= (part++)->n_out;
  return {part, RowInData(*part, output)};
}

// Blocks whose codes stand in a panel as in the file, four bytes side by side.
template <int kScaleBytes, int kCodeBytes, uint32_t kFlippedBits>
void CopyBlocks(const uint8_t* from, int64_t n_blocks, int lane, uint8_t* to) {
  for (; n_blocks > 0; --n_blocks) {
    for (int i = 0; i < kScaleBytes; i += 2) std::memcpy(to + 16 * i + 2 * lane, from + i, 2);
    for (int i = 0; i < kCodeBytes; i += 4) {
      const uint32_t codes = LoadU32(from + kScaleBytes + i) ^ kFlippedBits;
      std::memcpy(to + 16 * (kScaleBytes + i) + 4 * lane, &codes, 4);
    }
    from += kScaleBytes + kCodeBytes;
    to += 16 * (kScaleBytes + kCodeBytes);
  }
}

// Blocks [first, first + n) of `row` as those of one lane, the first of them at `to`.
void PackBlocks(DType dtype, const uint8_t* row, int64_t first, int64_t n, PanelKind kind, int lane,
                uint8_t* to) {
  const uint8_t* from = row + first * BlockBytes(dtype);
  switch (dtype) {
    case DType::kQ8_0:
      return CopyBlocks<2, 32, 0x80808080>(from, n, lane, to);  // signed to unsigned
    case DType::kQ4_0:
      return CopyBlocks<2, 16, 0>(from, n, lane, to);
    case DType::kQ4_1:
      return CopyBlocks<4, 16, 0>(from, n, lane, to);
    default:
      for (int64_t b = first; b < first + n; ++b, to += PanelBytes(kind, kPanelBlock)) {
        WriteBlock(kind, ReadBlock(dtype, row, b), lane, to);
      }
  }
}

template <size_t kSize>
void CopyFloats(const uint8_t* from, int64_t n, int lane, uint8_t* to) {
  for (int64_t k = 0; k < n; ++k)
    std::memcpy(to + (k * kPanelOutputs + lane) * kSize, from + k * kSize, kSize);
}

Status RoundPiece(const SourceRow& row, int64_t begin, int64_t n, PanelKind kind, int lane, uint8_t* to) {
  float values[kPieceInputs];
  uint8_t blocks[RowBytes(DType::kQ8_0, kPieceInputs)];  // the longer type
  const DType dtype = row.part->dtype;
  const DType rounded = *row.part->rounded_to;
  Dequantize(dtype, row.data() + RowBytes(dtype, begin), n, values);
  const Status status = Quantize(rounded, {values, static_cast<size_t>(n)}, blocks);
  if (!status.ok()) {
    return Annotate(status, absl::StrCat("tensor ", Quoted(row.part->name), ", row ", row.index));
  }
  PackBlocks(rounded, blocks, 0, n / kPanelBlock, kind, lane, to);
  return absl::OkStatus();
}

// Inputs [begin, begin + n) of a row as lane `lane` of its panel.
Status PackPiece(const SourceRow& row, int64_t begin, int64_t n, PanelKind kind, int lane, uint8_t* panel) {
  uint8_t* const to = panel + PanelBytes(kind, begin);
  if (row.part->rounded_to) return RoundPiece(row, begin, n, kind, lane, to);
  if (IsQuantised(kind)) {
    PackBlocks(row.part->dtype, row.data(), begin / kPanelBlock, n / kPanelBlock, kind, lane, to);
  } else if (kind == PanelKind::kF32) {
    CopyFloats<4>(row.data() + 4 * begin, n, lane, to);
  } else {
    CopyFloats<2>(row.data() + 2 * begin, n, lane, to);
  }
  return absl::OkStatus();
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
    case DType::kIQ4_NL:
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
    case DType::kQ3_K:  // its codes are among those of Q6_K, and so are its scales
      return PanelKind::kQ6_K;
  }
  return PanelKind::kF32;
}

CpuMatrix::CpuMatrix(std::span<const HostMatrix> parts) : n_in_(parts.front().n_in) {
  for (const HostMatrix& part : parts) {
    // Parts of one kind share a segment, so that tiles run across their borders.
    const PanelKind kind = PanelKindOf(part.packed_dtype());
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
    const int64_t n_bytes = matrix->SegmentBytes(segment);
    const std::string what = absl::StrCat(n_bytes, " bytes of packed weights");
    if (n_bytes >= kCheckedBytes) RETURN_IF_ERROR(CheckMemoryFor(static_cast<uint64_t>(n_bytes), what));
    segment.owned = AlignedBuffer(static_cast<size_t>(n_bytes), AlignedBuffer::Pages::kLater);
    segment.panels = segment.owned.data();
    if (segment.panels == nullptr) return absl::ResourceExhaustedError("no memory for " + what);
    const int64_t n_items = std::clamp<int64_t>(n_bytes / kItemBytes, 1, segment.n_panels());
    RETURN_IF_ERROR(OnAllCores(n_items, [&](int64_t i) -> Status {
      if (!segment.owned.FetchPages(static_cast<int>(i), static_cast<int>(n_items))) {
        return absl::ResourceExhaustedError(
            absl::StrCat("no memory for ", what, ": the system gave addresses, but no pages"));
      }
      const int64_t n_panels = segment.n_panels();
      return matrix->FillPanels(parts, segment, n_panels * i / n_items, n_panels * (i + 1) / n_items);
    }));
  }
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
  for (const PanelSegment& segment : segments_) {
    const Status filled = FillPanels(parts, segment, 0, segment.n_panels());
    COTERIE_CHECK(filled.ok()) << ToStd(filled.message());
  }
}

Status CpuMatrix::FillPanels(std::span<const HostMatrix> parts, const PanelSegment& segment, int64_t first,
                             int64_t last) const {
  for (int64_t p = first; p < last; ++p) {
    uint8_t* const panel = segment.panels + p * PanelBytes(segment.kind, n_in_);
    SourceRow rows[kPanelOutputs];
    const int64_t first_output = p * kPanelOutputs;
    const auto n_rows = static_cast<int>(std::min<int64_t>(kPanelOutputs, segment.n_out - first_output));
    for (int lane = 0; lane < n_rows; ++lane) {
      rows[lane] = SourceOf(parts, segment.out_begin + first_output + lane);
    }
    for (int64_t begin = 0; begin < n_in_; begin += kPieceInputs) {
      const int64_t n = std::min(kPieceInputs, n_in_ - begin);
      for (int lane = 0; lane < n_rows; ++lane) {
        RETURN_IF_ERROR(PackPiece(rows[lane], begin, n, segment.kind, lane, panel));
      }
    }
  }
  return absl::OkStatus();
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
