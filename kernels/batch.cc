#include "kernels/batch.h"

#include <algorithm>
#include <cstddef>

#include "common/check.h"

namespace coterie {

void Batch::Reserve(int max_tokens, int max_seqs, int max_blocks, int max_uses, int max_logit_rows) {
  const auto reserve = [](int n, auto*... vectors) { (vectors->reserve(static_cast<size_t>(n)), ...); };
  reserve(max_tokens, &token_ids, &positions);
  reserve(max_seqs + 1, &cu_seqlens, &adapter_offsets);
  reserve(max_seqs, &seats, &block_changes, &gates);
  reserve(max_blocks, &changed_blocks);
  reserve(max_uses, &adapter_slots, &adapter_weights);
  reserve(max_logit_rows, &logit_rows, &sampling, &counts_resets);
}

void Batch::ResolveTokens(std::span<const int32_t> sampled, std::vector<int32_t>* ids) const {
  *ids = token_ids;
  for (int32_t& id : *ids) {
    if (id >= 0) continue;
    const auto row = static_cast<size_t>(RowOf(id));
    COTERIE_CHECK_LT(row, sampled.size()) << "row of the step before";
    id = std::max(sampled[row], 0);  // kNotFinite: any token will do (FromRow)
  }
}

void Batch::Clear() {
  token_ids.clear();
  positions.clear();
  cu_seqlens.assign(1, 0);
  seats.clear();
  block_changes.clear();
  changed_blocks.clear();
  adapter_offsets.assign(1, 0);
  adapter_slots.clear();
  adapter_weights.clear();
  gates.clear();
  logit_rows.clear();
  sampling.clear();
  biases.clear();
  mask_words.clear();
  counts_resets.clear();
  counts_tokens.clear();
}

void Batch::ChangeBlocks(int seat, int first, std::span<const int32_t> blocks) {
  const auto begin = static_cast<int32_t>(changed_blocks.size());
  changed_blocks.insert(changed_blocks.end(), blocks.begin(), blocks.end());
  block_changes.push_back({seat, first, begin, static_cast<int32_t>(changed_blocks.size())});
}

void Batch::GateLast(const Gate& gate) {
  gates.resize(adapter_offsets.size() - 1);
  gates.back() = gate;
}

void Batch::KeepLogitRows(const Batch& step) {
  Clear();
  size_t row = 0;
  for (int s = 0; s < step.n_seqs(); ++s) {
    const int first = n_tokens();
    for (; row < step.logit_rows.size() && step.logit_rows[row] < step.cu_seqlens[s + 1]; ++row) {
      logit_rows.push_back(n_tokens());
      token_ids.push_back(step.token_ids[step.logit_rows[row]]);
      positions.push_back(step.positions[step.logit_rows[row]]);
    }
    if (n_tokens() > first) EndSequence(step, s);
  }
}

void Batch::KeepTokens(const Batch& step, int begin, int end) {
  Clear();
  for (int s = 0; s < step.n_seqs(); ++s) {
    const int from = std::max(begin, step.cu_seqlens[s]);
    const int to = std::min(end, step.cu_seqlens[s + 1]);
    if (from >= to) continue;
    token_ids.insert(token_ids.end(), step.token_ids.begin() + from, step.token_ids.begin() + to);
    positions.insert(positions.end(), step.positions.begin() + from, step.positions.begin() + to);
    EndSequence(step, s);
  }
  for (const int32_t row : step.logit_rows) {
    if (row >= begin && row < end) logit_rows.push_back(row - begin);
  }
}

void Batch::EndSequence(const Batch& step, int s) {
  cu_seqlens.push_back(n_tokens());
  seats.push_back(step.seats[s]);
  for (int32_t use = step.adapter_offsets[s]; use < step.adapter_offsets[s + 1]; ++use) {
    adapter_slots.push_back(step.adapter_slots[use]);
    adapter_weights.push_back(step.adapter_weights[use]);
  }
  adapter_offsets.push_back(static_cast<int32_t>(adapter_slots.size()));
  if (const Gate* gate = step.GateOf(s)) GateLast(*gate);
}

}  // namespace coterie
