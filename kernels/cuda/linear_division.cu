#include <algorithm>
#include <limits>
#include <utility>

#include "common/check.h"
#include "kernels/cuda/linear_division.h"
#include "kernels/cuda/linear_expand.h"
#include "kernels/cuda/linear_forms.h"

namespace coterie::cuda {
namespace {

// What the way over device memory costs at the end of a launch, a few microseconds, in bytes that a
// multiprocessor of an H200 reads in that time (36 a nanosecond).
constexpr double kSplitBytes = 64 * 1024;
// How often a byte of weights counts where the shortest ring has few of them under way.
constexpr double kShortRing = 1.5;
// How often a byte of x counts that is loaded from the second cache right before it is multiplied: such a
// load is waited for.
constexpr double kUnstaged = 2;

SmallDivision LayOutDivision(const SmallShape& shape, int groups, int ring) {
  SmallDivision division;
  division.groups = groups;
  division.columns =
      static_cast<int>(std::clamp<int64_t>(shape.n_processors / groups, 1, Strips(shape.n_out)));
  division.ring = ring;
  const int tokens = SmallTokens(shape.rows);
  const size_t strip_bytes = static_cast<size_t>(tokens) * kStripPitch * sizeof(float);
  size_t at = size_t{kKParts} * static_cast<size_t>(ring * RecordBytes(shape.form));
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
  const double slowed = division.ring == RingRecords(shape.form) ? 1 : kShortRing;
  const double weights = slowed * static_cast<double>(strips * StripBytes(shape.form, shape.n_in)) / groups;
  const auto x = static_cast<double>(shape.rows * PaddedInputs(shape.form, shape.n_in)) * 2 / groups;
  const double inputs = division.x_pitch > 0 ? x : kUnstaged * x * static_cast<double>(strips);
  if (groups == 1) return weights + inputs;
  // Each strip's parts, and what adapters add, are written and read once by some block of the column.
  const double sums = (shape.rows + 7) / 8 * 8 * kStripOutputs * 4.0 * 2 * (kKParts + 1);
  return weights + inputs + kSplitBytes + sums * static_cast<double>(strips) / groups;
}

// The division that costs least of those with `groups`, or of all (0), and its cost; infinite: none fits.
std::pair<SmallDivision, double> BestDivision(const SmallShape& shape, int groups) {
  std::pair<SmallDivision, double> best = {{}, std::numeric_limits<double>::infinity()};
  const bool may_split = SmallTokens(shape.rows) <= shape.split_tokens;
  const int most = groups > 0 ? groups : may_split ? std::min(kKParts, shape.n_processors) : 1;
  for (int n = groups > 0 ? groups : 1; n <= most; n *= 2) {
    for (const int ring : {RingRecords(shape.form), kLeastRingRecords}) {
      const SmallDivision division = LayOutDivision(shape, n, ring);
      if (division.bytes > shape.shared_limit) continue;
      const double bytes = BytesOfBlock(shape, division);
      if (bytes < best.second) best = {division, bytes};
    }
  }
  return best;
}

}  // namespace

SmallDivision DivideSmall(const SmallShape& shape, int groups) {
  COTERIE_CHECK(groups <= 1 ||
                (SmallTokens(shape.rows) <= shape.split_tokens && groups <= shape.n_processors))
      << groups << " groups";
  const auto [division, bytes] = BestDivision(shape, groups);
  COTERIE_CHECK(division.ring > 0) << shape.rows << " rows do not fit into " << shape.shared_limit
                                   << " bytes of shared memory";
  return division;
}

int RowsOfSmallWindow(const SmallShape& shape) {
  const int most = std::min(shape.rows, kSmallRows);
  int best_rows = std::min(most, kFewRows);
  double least = std::numeric_limits<double>::infinity();
  for (int n = 1; n <= (most + kFewRows - 1) / kFewRows; ++n) {
    SmallShape window = shape;
    window.rows = n == 1 ? most : (most + 8 * n - 1) / (8 * n) * 8;  // whole tiles of eight
    const double bytes = n * BestDivision(window, 0).second;
    if (bytes < least) {
      least = bytes;
      best_rows = window.rows;
    }
  }
  return best_rows;
}

}  // namespace coterie::cuda
