#include "kernels/cuda/matrix.h"

#include <algorithm>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "common/check.h"
#include "common/on_all_cores.h"
#include "kernels/cuda/pack_strip.h"
#include "kernels/host_matrix.h"

namespace coterie::cuda {
namespace {

constexpr int64_t kSegmentAlignment = 256;
constexpr int64_t kChunkBytes = 16 << 20;  // of host memory, packed at a time

WeightForm FormOf(DType dtype, WeightChoice choice) {
  switch (dtype) {
    case DType::kF32:
    case DType::kF16:
    case DType::kBF16:
      if (choice == WeightChoice::kQ8_0) return WeightForm::kCodes8;
      if (choice == WeightChoice::kFp8) return WeightForm::kFp8;
      if (dtype == DType::kBF16) return WeightForm::kBf16;
      return dtype == DType::kF16 ? WeightForm::kF16 : WeightForm::kPair;
    case DType::kQ8_0:
    case DType::kIQ4_NL:
      return WeightForm::kCodes8;
    case DType::kQ5_0:
      return WeightForm::kCodes5;
    case DType::kQ5_1:
      return WeightForm::kCodes5Min;
    case DType::kQ4_0:
      return WeightForm::kCodes4;
    case DType::kQ4_1:
      return WeightForm::kCodes4Min;
    case DType::kQ4_K:
      return WeightForm::kQ4K;
    case DType::kQ5_K:
      return WeightForm::kQ5K;
    case DType::kQ6_K:
    case DType::kQ3_K:
      return WeightForm::kQ6K;
  }
  return WeightForm::kBf16;
}

int64_t AlignedSegmentBytes(WeightForm form, int64_t n_out, int64_t n_in) {
  const int64_t bytes = SegmentBytes(form, n_out, n_in);
  return (bytes + kSegmentAlignment - 1) / kSegmentAlignment * kSegmentAlignment;
}

Status CopyWeights(const void* device, const void* host, int64_t bytes) {
  return CopyToDevice(const_cast<void*>(device), host, static_cast<size_t>(bytes),
                      "copying weights to the device");
}

// The rows of a segment in the order of its outputs.
std::vector<SourceRow> RowsOf(std::span<const HostMatrix> parts) {
  std::vector<SourceRow> rows;
  for (const HostMatrix& part : parts) {
    const int64_t row_bytes = RowBytes(part.dtype, part.n_in);
    for (int64_t row = 0; row < part.n_out; ++row) {
      const int64_t source = RowInData(part, row);
      rows.push_back({part.dtype, part.data + source * row_bytes});
    }
  }
  return rows;
}

// Packs a segment chunk by chunk, on all cores: one packs 50 to 150 million weights a second, and a base has
// billions. The second of kPair's planes is behind the first.
Status FillSegment(std::span<const HostMatrix> parts, const WeightSegment& segment) {
  const WeightForm form = segment.form;
  const int64_t n_strips = Strips(segment.n_out);
  // Of one plane.
  const int64_t strip_bytes = StripBytes(form, segment.n_in) / StoredPlanes(form);
  const int64_t chunk_strips = std::clamp<int64_t>(kChunkBytes / strip_bytes, 1, n_strips);
  const std::vector<SourceRow> rows = RowsOf(parts);
  std::vector<uint8_t> codes, low_halves;
  std::vector<float> scales(static_cast<size_t>(n_strips * kStripOutputs));
  for (int64_t first = 0; first < n_strips; first += chunk_strips) {
    const int64_t n = std::min(chunk_strips, n_strips - first);
    codes.assign(static_cast<size_t>(n * strip_bytes), 0);
    if (form == WeightForm::kPair) low_halves.assign(codes.size(), 0);
    RETURN_IF_ERROR(OnAllCores(n, [&](int64_t i) -> Status {
      const int64_t first_row = (first + i) * kStripOutputs;
      const StripTarget to = {codes.data() + i * strip_bytes, low_halves.data() + i * strip_bytes,
                              scales.data() + first_row};
      const int64_t n_rows = std::min<int64_t>(kStripOutputs, segment.n_out - first_row);
      const std::span<const SourceRow> of_strip = {rows.data() + first_row, static_cast<size_t>(n_rows)};
      const Status packed = PackStrip(form, of_strip, segment.n_in, to);
      return packed.ok()
                 ? packed
                 : Annotate(packed, absl::StrCat("weights of outputs from ", segment.first_out + first_row));
    }));
    const uint8_t* const to = segment.codes + first * strip_bytes;
    RETURN_IF_ERROR(CopyWeights(to, codes.data(), n * strip_bytes));
    if (form == WeightForm::kPair) {
      RETURN_IF_ERROR(CopyWeights(to + n_strips * strip_bytes, low_halves.data(), n * strip_bytes));
    }
  }
  if (form != WeightForm::kFp8) return absl::OkStatus();
  return CopyWeights(segment.output_scales, scales.data(), n_strips * kStripOutputs * 4);
}

}  // namespace

StatusOr<std::unique_ptr<CudaMatrix>> PackMatrix(std::span<const HostMatrix> parts, WeightChoice choice) {
  RETURN_IF_ERROR(CheckMatrixParts(parts));
  for (const HostMatrix& part : parts) {
    if (part.rounded_to) {
      return absl::UnimplementedError("a GPU rounds weights as its options say, not matrix by matrix");
    }
  }
  auto matrix = std::make_unique<CudaMatrix>();
  matrix->n_in_ = parts.front().n_in;
  std::vector<size_t> first_parts;  // of the segments
  for (size_t i = 0; i < parts.size(); ++i) {
    const WeightForm form = FormOf(parts[i].dtype, choice);
    if (matrix->segments_.empty() || matrix->segments_.back().form != form) {
      matrix->segments_.push_back({form, matrix->n_out_, 0, matrix->n_in_});
      first_parts.push_back(i);
      if (IsQuantised(form)) matrix->quantised_ = true;
    }
    matrix->segments_.back().n_out += parts[i].n_out;
    matrix->n_out_ += parts[i].n_out;
  }
  first_parts.push_back(parts.size());
  int64_t bytes = 0;
  for (const WeightSegment& segment : matrix->segments_) {
    bytes += AlignedSegmentBytes(segment.form, segment.n_out, segment.n_in);
  }
  ASSIGN_OR_RETURN(matrix->memory_, DeviceMemory::Allocate(
                                        static_cast<size_t>(bytes),
                                        absl::StrCat("weights [", matrix->n_out_, ", ", matrix->n_in_, "]")));
  const uint8_t* at = matrix->memory_.As<uint8_t>();
  for (size_t s = 0; s < matrix->segments_.size(); ++s) {
    WeightSegment& segment = matrix->segments_[s];
    segment.codes = at;
    if (segment.form == WeightForm::kFp8) {
      segment.output_scales =
          reinterpret_cast<const float*>(at + Strips(segment.n_out) * StripBytes(segment.form, segment.n_in));
    }
    at += AlignedSegmentBytes(segment.form, segment.n_out, segment.n_in);
    RETURN_IF_ERROR(FillSegment(parts.subspan(first_parts[s], first_parts[s + 1] - first_parts[s]), segment));
  }
  return matrix;
}

size_t MatrixBytes(DType dtype, int64_t n_out, int64_t n_in, WeightChoice choice) {
  return static_cast<size_t>(AlignedSegmentBytes(FormOf(dtype, choice), n_out, n_in));
}

}  // namespace coterie::cuda
