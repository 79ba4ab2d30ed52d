#include <algorithm>
#include <array>
#include <cmath>
#include <vector>

#include "common/check.h"
#include "common/sequence.h"
#include "kernels/cpu/cpu_backend.h"
#include "kernels/cpu/lora_adapter.h"
#include "kernels/cpu/lora_use.h"
#include "kernels/gate_weights.h"

// The weights that gates give the rows of their sequences at one product, each of its targets by itself.
// Behind t = A x, from which arrow gates score.
namespace coterie::cpu {
namespace {

// |w · t|; the sum in float64, in order.
float ArrowScore(const float* w, const float* t, int rank) {
  double sum = 0;
  for (int r = 0; r < rank; ++r) sum += static_cast<double>(w[r]) * static_cast<double>(t[r]);
  return static_cast<float>(std::fabs(sum));
}

}  // namespace

std::span<const GateKind> CpuBackend::gates() const {
  static_assert(kAllGates.back() == GateKind::kArrow);
  return std::span(kAllGates).first(kAllGates.size() - (arrow_gates_ ? 0 : 1));
}

// `adapters`: of the sequence, in order; null for one without a pair at this input.
void CpuBackend::ScoreRow(const LoraCall& call, const GatedSequence& gated,
                          std::span<const LoraUse* const> adapters, size_t target, int row,
                          std::span<float> scores) const {
  const LoraModule module = call.targets[target].module;
  if (gated.gate.kind == GateKind::kNoisy) {
    const Batch& batch = static_cast<const CpuStep&>(*call.step).batch();
    const int32_t position = batch.positions[static_cast<size_t>(batch.cu_seqlens[gated.sequence] + row)];
    return NoisyScores(gated.gate.seed, position, call.layer, module, scores);
  }
  for (size_t i = 0; i < adapters.size(); ++i) {
    scores[i] = 0;
    if (adapters[i] == nullptr) continue;
    const LoraB& b = adapters[i]->layer->b[static_cast<size_t>(module)];
    if (b.rank == 0) continue;
    COTERIE_CHECK(b.arrow != nullptr) << "an adapter packed without what arrow gates read";
    const int64_t at = int64_t{gated.adapters[i].first_row + row} * adapters[i]->input->rank;
    scores[i] = ArrowScore(b.arrow, adapters[i]->t + at + b.t_column, b.rank);
  }
}

void CpuBackend::WeighSequence(const LoraCall& call, const GatedSequence& gated,
                               std::span<const LoraUse* const> adapters, int n_rows) {
  const size_t n = adapters.size();
  constexpr int64_t kScoreCost = 64;  // in floats of elementwise work
  ForRows(n_rows, static_cast<int64_t>(n * call.targets.size()) * kScoreCost, [&](int begin, int end, int) {
    std::array<float, kMaxAdaptersPerSequence> scores, weights;
    for (int row = begin; row < end; ++row) {
      for (size_t target = 0; target < call.targets.size(); ++target) {
        ScoreRow(call, gated, adapters, target, row, std::span(scores).first(n));
        GateWeights(std::span(scores).first(n), gated.gate.top_k, std::span(weights).first(n));
        for (size_t i = 0; i < n; ++i) {
          if (adapters[i] == nullptr) continue;
          adapters[i]->WeightsAt(target)[gated.adapters[i].first_row + row] *= weights[i];
        }
      }
    }
  });
}

void CpuBackend::WeighByGates(const LoraCall& call, std::span<const LoraUse> uses) {
  for (const LoraUse& use : uses) {
    for (size_t target = 0; target < call.targets.size(); ++target) {
      std::copy(use.group->weights.begin(), use.group->weights.end(), use.WeightsAt(target));
    }
  }
  const StepPlan& plan = static_cast<const CpuStep&>(*call.step).plan();
  for (const GatedSequence& gated : plan.gated_sequences()) {
    const size_t n = gated.adapters.size();
    COTERIE_CHECK_LE(n, kMaxAdaptersPerSequence) << "adapters under a gate";
    std::array<const LoraUse*, kMaxAdaptersPerSequence> adapters = {};
    for (size_t i = 0; i < n; ++i) {
      const LoraGroup* group = &plan.lora_groups()[static_cast<size_t>(gated.adapters[i].group)];
      const auto use =
          std::ranges::lower_bound(uses, group, {}, [](const LoraUse& other) { return other.group; });
      if (use != uses.end() && use->group == group) adapters[i] = &*use;
    }
    const std::vector<int32_t>& cu_seqlens = plan.batch().cu_seqlens;
    WeighSequence(call, gated, std::span(adapters).first(n),
                  cu_seqlens[gated.sequence + 1] - cu_seqlens[gated.sequence]);
  }
}

}  // namespace coterie::cpu
