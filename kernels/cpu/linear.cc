#include <algorithm>

#include "common/check.h"
#include "kernels/cpu/cpu_backend.h"

namespace coterie::cpu {

CpuBackend::LinearCall CpuBackend::DescribeLinear(int rows, const CpuMatrix& matrix, const DeviceBuffer* bias,
                                                  bool accumulate, float* y) const {
  LinearCall call;
  call.matrix = &matrix;
  call.fast = mode_ == NumericsMode::kFast && matrix.quantised();
  call.y = y;
  call.args.n_in = matrix.n_in();
  call.args.rows = rows;
  call.args.x_stride = matrix.n_in();
  call.args.y_stride = matrix.n_out();
  call.args.accumulate = accumulate;
  call.args.alpha = 1.0f;
  if (bias != nullptr) {
    COTERIE_CHECK_EQ(static_cast<int64_t>(bias->n_floats()), matrix.n_out()) << "bias of a linear layer";
    call.bias = bias->data();
  }
  return call;
}

void CpuBackend::RunPanels(const LinearCall& call, const PanelRange& range) const {
  LinearArgs args = call.args;
  int64_t first = 0;  // the segment's first panel among all
  for (const PanelSegment& segment : call.matrix->segments()) {
    const int64_t from = std::max(range.begin - first, int64_t{0});
    const int64_t to = std::min(range.end - first, segment.n_panels());
    // `next` within this segment; nothing is prefetched across segments.
    args.next_panel = std::clamp(range.next - first, to, std::max(to, segment.n_panels()));
    first += segment.n_panels();
    if (from >= to) continue;
    args.kind = segment.kind;
    args.panels = segment.panels;
    args.n_out = segment.n_out;
    args.bias = call.bias == nullptr ? nullptr : call.bias + segment.out_begin;
    args.y = call.y + segment.out_begin;
    kernels_->linear(args, call.fast && IsQuantised(segment.kind), from, to);
  }
}

void CpuBackend::Linear(const LinearInput& x, int rows, const PackedMatrix& w, const DeviceBuffer* bias,
                        bool accumulate, float* y_dev) {
  if (rows == 0) return;
  const CpuMatrix& matrix = static_cast<const CpuMatrix&>(w);
  LinearCall call = DescribeLinear(rows, matrix, bias, accumulate, y_dev);
  PlanInput(x, call.fast, !call.fast || matrix.any_float(), &call);
  PrepareAllRows(call);
  ForPanels(call, [&](const PanelRange& range, int) { RunPanels(call, range); });
}

}  // namespace coterie::cpu
