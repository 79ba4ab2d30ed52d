#include "worker/engine/step_batch.h"

#include <algorithm>

#include "common/check.h"
#include "kernels/backend.h"
#include "worker/engine/sampler.h"

namespace coterie {

StepBatchBuilder::StepBatchBuilder(int max_tokens, int max_seqs, int max_blocks, int max_logit_rows,
                                   int n_slots, const LanguageModelInfo& info)
    : vocab_size_(info.vocab_size), max_top_logits_(info.max_top_logits), index_of_slot_(n_slots, -1) {
  batch_.Reserve(max_tokens, max_seqs, max_blocks, max_seqs * static_cast<int>(kMaxAdaptersPerSequence),
                 max_logit_rows);
}

// Of the row at this position. Rows that score the prompt need the whole distribution.
int StepBatchBuilder::TopNeeded(const Sequence& s, int position) const {
  return position + 1 < s.n_prompt ? 0 : Sampler::TopNeeded(s.request.sampling, vocab_size_, max_top_logits_);
}

const Batch& StepBatchBuilder::Build(std::span<const StepEntry> plan) {
  batch_.Clear();
  std::fill(index_of_slot_.begin(), index_of_slot_.end(), -1);
  for (const StepEntry& entry : plan) {
    const Sequence& s = *entry.sequence;
    for (int position = s.n_computed; position < s.n_computed + entry.n_tokens; ++position) {
      if (Scheduler::WantsLogits(s, position)) {
        batch_.logit_rows.push_back(batch_.n_tokens());
        batch_.logit_top_k.push_back(TopNeeded(s, position));
      }
      batch_.token_ids.push_back(s.tokens[position]);
      batch_.positions.push_back(position);
    }
    batch_.cu_seqlens.push_back(batch_.n_tokens());
    const int n_blocks = (s.n_computed + entry.n_tokens + kKvBlockTokens - 1) / kKvBlockTokens;
    batch_.block_ids.insert(batch_.block_ids.end(), s.blocks.begin(), s.blocks.begin() + n_blocks);
    batch_.block_offsets.push_back(static_cast<int32_t>(batch_.block_ids.size()));
    for (size_t i = 0; i < s.adapters.size(); ++i) {
      int32_t& index = index_of_slot_[s.adapters[i]->slot];
      if (index < 0) {
        index = static_cast<int32_t>(batch_.adapters.size());
        batch_.adapters.push_back(s.adapters[i]->loaded->packed.get());
      }
      batch_.adapter_slots.push_back(index);
      batch_.adapter_weights.push_back(s.request.adapters[i].weight);
    }
    batch_.adapter_offsets.push_back(static_cast<int32_t>(batch_.adapter_slots.size()));
  }
  const bool all_whole =
      std::all_of(batch_.logit_top_k.begin(), batch_.logit_top_k.end(), [](int32_t k) { return k == 0; });
  if (all_whole) batch_.logit_top_k.clear();
  return batch_;
}

StepLogits LogitRowReader::Next() {
  const auto take = [](size_t n, auto* from) {
    COTERIE_CHECK(n <= from->size()) << "the model returned too few logits: " << from->size() << " of " << n;
    const auto taken = from->first(n);
    *from = from->subspan(n);
    return taken;
  };
  const int32_t top_k = batch_.logit_top_k.empty() ? 0 : batch_.logit_top_k[row_];
  ++row_;
  StepLogits row;
  if (top_k > 0) {
    row.top = take(static_cast<size_t>(top_k), &rest_.top);
  } else {
    row.whole = take(vocab_size_, &rest_.whole);
  }
  return row;
}

}  // namespace coterie
