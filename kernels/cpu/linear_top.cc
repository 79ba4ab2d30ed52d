#include <algorithm>
#include <cmath>

#include "common/check.h"
#include "kernels/cpu/cpu_backend.h"

// A product of which only the largest few values per row are stored. A thread computes some panels for all
// rows into a buffer in the first cache and scans it there: other values never go to memory. Each thread
// collects the best of all ranges it claims (collecting per range made a top-k of 40 30 % slower: most of the
// work is finding the first few), and the threads' lists are merged. Before() is a total order, so the best k
// of a row do not depend on who computed what.
namespace coterie::cpu {
namespace {

constexpr int64_t kBufferFloats = 3072;  // 12 KiB
constexpr int64_t kBufferRows = 64;      // at most in the buffer, so that three panels fit
constexpr int64_t kMaxPanels = 32;       // at a time

constexpr int32_t kSpoilt = -1;  // in place of a count: one of the row's values is not finite

// Inserts `value` into the best k values of a row, best first, of which *n are filled.
void Insert(TopLogit value, int32_t k, TopLogit* best, int32_t* n) {
  int32_t at = *n < k ? (*n)++ : k - 1;
  for (; at > 0 && Before(value, best[at - 1]); --at) best[at] = best[at - 1];
  best[at] = value;
}

// The threshold for the next value, which is kept if it is larger. (Of equal ones the earlier stays: its id
// is lower.) While fewer than k are kept it is NaN, so that the test `value <= threshold` rejects nothing.
float Bar(int32_t k, const TopLogit* best, int32_t n) { return n < k ? NAN : best[k - 1].value; }

size_t RoundUp(size_t n_bytes) { return (n_bytes + 63) / 64 * 64; }

}  // namespace

// The best values that one thread has found, row after row.
struct CpuBackend::ThreadTop {
  TopLogit* best;   // [sum of keep]
  int32_t* counts;  // [rows] or kSpoilt
};

// Ranges come to a thread in ascending order: `found` holds values of earlier panels only.
void CpuBackend::RunTopPanels(const LinearCall& call, const PanelRange& range, std::span<const int32_t> keep,
                              const ThreadTop& found) const {
  alignas(64) float buffer[kBufferFloats];  // [rows, columns]
  const int64_t most_rows = std::min<int64_t>(call.args.rows, kBufferRows);
  int64_t step = std::min(kBufferFloats / (most_rows * kPanelOutputs), kMaxPanels);
  step -= step % kernels_->wide_panels;
  int64_t first = 0;  // the segment's first panel among all
  for (const PanelSegment& segment : call.matrix->segments()) {
    const int64_t to = std::min(range.end - first, segment.n_panels());
    for (int64_t panel = std::max(range.begin - first, int64_t{0}); panel < to; panel += step) {
      const int64_t n_panels = std::min(step, to - panel);
      const int64_t column = panel * kPanelOutputs;  // of the segment
      const int64_t n_columns = std::min(n_panels * kPanelOutputs, segment.n_out - column);
      LinearArgs args = call.args;
      args.kind = segment.kind;
      args.panels = segment.panels + panel * PanelBytes(segment.kind, args.n_in);
      args.n_out = n_columns;
      args.next_panel = n_panels;
      args.y = buffer;
      args.y_stride = n_panels * kPanelOutputs;
      TopLogit* best = found.best;
      int64_t n_whole = 0;  // rows with keep 0 so far
      for (int row = 0; row < call.args.rows; row += args.rows) {
        args.rows = static_cast<int>(std::min<int64_t>(kBufferRows, call.args.rows - row));
        if (args.x != nullptr) args.x = call.args.x + row * args.x_stride;
        if (args.q != nullptr) args.q = call.args.q + row * (args.n_in / kPanelBlock);
        kernels_->linear(args, call.fast && IsQuantised(segment.kind), 0, n_panels);
        for (int r = 0; r < args.rows; ++r) {
          const float* y = buffer + r * args.y_stride;
          const int32_t k = keep[static_cast<size_t>(row + r)];
          if (k == 0) {
            std::copy_n(y, n_columns, call.y + n_whole++ * call.args.y_stride + segment.out_begin + column);
            continue;
          }
          int32_t* n = found.counts + row + r;
          if (*n != kSpoilt) {
            for (int64_t i = 0;; ++i) {
              i += kernels_->skip_at_most(y + i, n_columns - i, Bar(k, best, *n));
              if (i == n_columns) break;
              if (!std::isfinite(y[i])) {
                *n = kSpoilt;
                break;
              }
              Insert({y[i], static_cast<int32_t>(segment.out_begin + column + i)}, k, best, n);
            }
          }
          best += k;
        }
      }
    }
    first += segment.n_panels();
  }
}

void CpuBackend::LinearTop(const LinearInput& x, int rows, const PackedMatrix& w,
                           std::span<const int32_t> keep, float* y, TopLogit* top) {
  if (rows == 0) return;
  const CpuMatrix& matrix = static_cast<const CpuMatrix&>(w);
  COTERIE_CHECK_EQ(keep.size(), static_cast<size_t>(rows)) << "rows to keep";
  size_t n_kept = 0;
  for (const int32_t k : keep) {
    COTERIE_CHECK(k >= 0 && k <= kMaxTopLogits && k <= matrix.n_out()) << "values to keep: " << k;
    n_kept += static_cast<size_t>(k);
  }
  LinearCall call = DescribeLinear(rows, matrix, nullptr, /*accumulate=*/false, y);
  PlanInput(x, call.fast, !call.fast || matrix.any_float(), &call);
  PrepareAllRows(call);

  const int n_threads = pool_.n_threads();
  const size_t thread_bytes =
      RoundUp(n_kept * sizeof(TopLogit) + static_cast<size_t>(rows) * sizeof(int32_t));
  top_.Reserve(static_cast<size_t>(n_threads) * thread_bytes);
  const auto top_of = [&](int thread) {
    TopLogit* best = reinterpret_cast<TopLogit*>(top_.data() + static_cast<size_t>(thread) * thread_bytes);
    return ThreadTop{best, reinterpret_cast<int32_t*>(best + n_kept)};
  };
  for (int thread = 0; thread < n_threads; ++thread) std::fill_n(top_of(thread).counts, rows, 0);
  ForPanels(call,
            [&](const PanelRange& range, int thread) { RunTopPanels(call, range, keep, top_of(thread)); });

  size_t at = 0;  // where the row begins in `top` and in every thread's list
  for (int row = 0; row < rows; ++row) {
    const int32_t k = keep[static_cast<size_t>(row)];
    TopLogit* best = top + at;
    int32_t n = 0;
    for (int thread = 0; thread < n_threads && n != kSpoilt; ++thread) {
      const ThreadTop there = top_of(thread);
      const std::span<const TopLogit> found(there.best + at,
                                            static_cast<size_t>(std::max(there.counts[row], 0)));
      for (const TopLogit& value : found) {
        if (n == k && !Before(value, best[k - 1])) break;  // the rest is worse
        Insert(value, k, best, &n);
      }
      if (there.counts[row] == kSpoilt) n = kSpoilt;
    }
    if (n == kSpoilt) std::fill_n(best, k, TopLogit{NAN, -1});
    at += static_cast<size_t>(k);
  }
}

}  // namespace coterie::cpu
