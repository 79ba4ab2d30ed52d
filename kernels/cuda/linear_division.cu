#include <algorithm>

#include "common/check.h"
#include "kernels/cuda/linear_division.h"
#include "kernels/cuda/linear_expand.h"
#include "kernels/cuda/linear_forms.h"

namespace coterie::cuda {
namespace {

// What the way over device memory costs at the end of a launch, a few microseconds, in bytes that a
// multiprocessor of an H200 reads in that time (36 a nanosecond).
constexpr double kSplitBytes = 64 * 1024;

SmallDivision LayOutDivision(const SmallShape& shape, int groups) {
  SmallDivision division;
  division.groups = groups;
  division.columns =
      static_cast<int>(std::clamp<int64_t>(shape.n_processors / groups, 1, Strips(shape.n_out)));
  const int tokens = SmallTokens(shape.rows);
  const size_t strip_bytes = static_cast<size_t>(tokens) * kStripPitch * sizeof(float);
  size_t at = size_t{kKParts} * static_cast<size_t>(RingRecords(shape.form) * RecordBytes(shape.form));
  division.sums = at;
  if (groups == 1) at += kKParts * strip_bytes;
  division.deltas = at;
  if (shape.adapters) at += size_t{kSmallAdapterWarps} * (groups == 1 ? 2 : 1) * strip_bytes;
  division.x = at;
  // The rows that there are, and one of zeros where they fill no tile of eight.
  division.staged_rows = shape.rows + (shape.rows % 8 == 0 ? 0 : 1);
  const int64_t records_of_part = (Records(shape.form, shape.n_in) + kKParts - 1) / kKParts;
  const int64_t pitch = records_of_part * RecordInputs(shape.form) + InputPad(shape.form);
  const size_t with_x =
      at + static_cast<size_t>(kKParts / groups * division.staged_rows * pitch) * sizeof(uint16_t);
  if (with_x <= shape.shared_limit) {
    division.x_pitch = static_cast<int>(pitch);
    at = with_x;
  }
  division.bytes = at;
  return division;
}

// Bytes that a block reads or writes outside of its multiprocessor, of the column with most strips.
double BytesOfBlock(const SmallShape& shape, const SmallDivision& division) {
  const int groups = division.groups;
  const int64_t strips = (Strips(shape.n_out) + division.columns - 1) / division.columns;
  const auto weights = static_cast<double>(strips * StripBytes(shape.form, shape.n_in)) / groups;
  const auto x = static_cast<double>(shape.rows * PaddedInputs(shape.form, shape.n_in)) * 2 / groups;
  const double inputs = division.x_pitch > 0 ? x : x * static_cast<double>(strips);
  if (groups == 1) return weights + inputs;
  // Each strip's parts, and what adapters add, are written and read once by some block of the column.
  const double sums = (shape.rows + 7) / 8 * 8 * kStripOutputs * 4.0 * 2 * (kKParts + 1);
  return weights + inputs + kSplitBytes + sums * static_cast<double>(strips) / groups;
}

}  // namespace

SmallDivision DivideSmall(const SmallShape& shape, int groups) {
  if (groups > 0) {
    COTERIE_CHECK(groups == 1 || (shape.may_split && groups <= shape.n_processors)) << groups << " groups";
    return LayOutDivision(shape, groups);
  }
  SmallDivision best = LayOutDivision(shape, 1);
  if (!shape.may_split) return best;
  for (int more = 2; more <= std::min(kKParts, shape.n_processors); more *= 2) {
    const SmallDivision division = LayOutDivision(shape, more);
    if (BytesOfBlock(shape, division) < BytesOfBlock(shape, best)) best = division;
  }
  return best;
}

}  // namespace coterie::cuda
