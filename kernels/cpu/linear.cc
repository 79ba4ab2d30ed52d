#include <algorithm>

#include "common/check.h"
#include "kernels/cpu/cpu_backend.h"

namespace coterie::cpu {

QuantisedRows CpuBackend::Quantise(const float* x, int rows, int64_t n_in) {
  const int64_t n_blocks = rows * (n_in / kPanelBlock);
  quantised_.Reserve(static_cast<size_t>(rows * n_in) +
                     static_cast<size_t>(n_blocks) * sizeof(QuantisedBlock));
  QuantisedRows to;
  to.q = quantised_.as<int8_t>();
  to.blocks = reinterpret_cast<QuantisedBlock*>(quantised_.data() + rows * n_in);  // n_in is a multiple of 32
  ForRows(rows, 4 * n_in,
          [&](int begin, int end) { kernels_->quantise_rows(x, n_in, n_in, begin, end, to); });
  return to;
}

void CpuBackend::Linear(const float* x_dev, int rows, const PackedMatrix& w, const DeviceBuffer* bias,
                        bool accumulate, float* y_dev) {
  if (rows == 0) return;
  const CpuMatrix& matrix = static_cast<const CpuMatrix&>(w);
  const bool fast = mode_ == NumericsMode::kFast && matrix.any_quantised();
  LinearArgs args = {};
  args.n_in = matrix.n_in();
  args.rows = rows;
  args.x = x_dev;
  args.x_stride = matrix.n_in();
  if (fast) args.q = Quantise(x_dev, rows, matrix.n_in());
  args.y_stride = matrix.n_out();
  args.accumulate = accumulate;
  args.alpha = 1.0f;
  if (bias != nullptr) {
    COTERIE_CHECK_EQ(static_cast<int64_t>(bias->n_floats()), matrix.n_out()) << "bias of a linear layer";
  }

  pool_.RunRanges(matrix.n_panels(), 4, [&](int64_t begin, int64_t end, int) {
    int64_t first = 0;  // the segment's first panel among all
    LinearArgs a = args;
    for (const PanelSegment& segment : matrix.segments()) {
      const int64_t from = std::max(begin - first, int64_t{0});
      const int64_t to = std::min(end - first, segment.n_panels());
      first += segment.n_panels();
      if (from >= to) continue;
      a.kind = segment.kind;
      a.panels = segment.panels.data();
      a.n_out = segment.n_out;
      a.bias = bias == nullptr ? nullptr : bias->data() + segment.out_begin;
      a.y = y_dev + segment.out_begin;
      kernels_->linear(a, fast && IsQuantised(segment.kind), from, to);
    }
  });
}

}  // namespace coterie::cpu
