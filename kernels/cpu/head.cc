#include <algorithm>

#include "kernels/cpu/cpu_backend.h"

namespace coterie::cpu {

void CpuBackend::HeadAndSample(StepContext* context, const LinearInput& x, const PackedMatrix& head,
                               Seats* seats) {
  CpuStep& step = *static_cast<CpuStep*>(context);
  CpuSeats& kept = *static_cast<CpuSeats*>(seats);
  const int rows = static_cast<int>(step.batch().logit_rows.size());
  const auto vocab_size = static_cast<size_t>(head.n_out());
  kept.sampler.Begin(step.batch(), &step.output);

  step.keep.clear();
  size_t n_kept = 0;
  const int most = static_cast<int>(std::min<int64_t>(kMaxTopLogits, head.n_out()));
  for (int row = 0; row < rows; ++row) {
    step.keep.push_back(kept.sampler.TopNeeded(row, most));
    n_kept += static_cast<size_t>(step.keep.back());
  }
  float* const logits = step.logits.as<float>();
  step.top.resize(n_kept);
  if (n_kept == 0) {
    Linear(x, rows, head, nullptr, /*accumulate=*/false, logits);
  } else {
    LinearTop(x, rows, head, step.keep, logits, step.top.data());
  }

  const float* whole = logits;
  std::span<const TopLogit> top = step.top;
  for (const int32_t k : step.keep) {
    if (k == 0) {
      kept.sampler.TakeRow(std::span(whole, vocab_size));
      whole += vocab_size;
    } else {
      kept.sampler.TakeRow(top.first(static_cast<size_t>(k)));
      top = top.subspan(static_cast<size_t>(k));
    }
  }
  kept.sampled = step.output.tokens;
}

}  // namespace coterie::cpu
