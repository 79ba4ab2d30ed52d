#ifndef COTERIE_TESTS_MODEL_DECODER_SEQUENCES_H_
#define COTERIE_TESTS_MODEL_DECODER_SEQUENCES_H_

#include <algorithm>
#include <span>
#include <vector>

#include "kernels/batch.h"
#include "kernels/decoder_ops.h"
#include "model/decoder/language_model.h"

namespace coterie::testing {

// One sequence of a test or a benchmark: its tokens, how many of them are in the KV cache, its blocks.
struct TestSequence {
  std::vector<int32_t> tokens;
  int n_done = 0;
  std::vector<int32_t> blocks;
  std::vector<int> adapter_slots;  // of the model's, filled by the test
  std::vector<float> weights;
  Gate gate;

  // Blocks first, first + 1, ... for `n_positions` positions.
  void UseBlocks(int first, int n_positions) {
    blocks.clear();
    for (int b = 0; b * kKvBlockTokens < n_positions; ++b) blocks.push_back(first + b);
  }
};

enum class LogitRows { kNone, kLast, kAll };

// Adds the next `n` tokens of `s` to the step and counts them as done.
inline void AddToBatch(TestSequence* s, int n, LogitRows rows, Batch* batch) {
  const int first_row = batch->n_tokens();
  for (int i = 0; i < n; ++i) {
    batch->token_ids.push_back(s->tokens[static_cast<size_t>(s->n_done + i)]);
    batch->positions.push_back(s->n_done + i);
    if (rows == LogitRows::kAll || (rows == LogitRows::kLast && i == n - 1)) {
      batch->logit_rows.push_back(first_row + i);
    }
  }
  s->n_done += n;
  batch->cu_seqlens.push_back(batch->n_tokens());
  const auto seat = static_cast<int>(batch->seats.size());
  batch->seats.push_back(seat);
  batch->ChangeBlocks(seat, 0, std::span(s->blocks).first(static_cast<size_t>(KvBlocksFor(s->n_done))));
  for (size_t i = 0; i < s->adapter_slots.size(); ++i) {
    batch->adapter_slots.push_back(s->adapter_slots[i]);
    batch->adapter_weights.push_back(s->weights[i]);
  }
  batch->adapter_offsets.push_back(static_cast<int32_t>(batch->adapter_slots.size()));
  if (s->gate.kind != GateKind::kNone) batch->GateLast(s->gate);
}

// Runs the step and waits for it: every row's logits [n_logit_rows, vocab], valid until the next step.
inline StatusOr<std::span<const float>> RunForLogits(LanguageModel* model, Batch* batch) {
  batch->sampling.assign(batch->logit_rows.size(), {});
  for (RowSampling& row : batch->sampling) row.keep_logits = true;
  ASSIGN_OR_RETURN(const StepTicket ticket, model->Launch(*batch));
  ASSIGN_OR_RETURN(const StepResult result, model->Collect(ticket));
  return result.logits;
}

}  // namespace coterie::testing

#endif  // COTERIE_TESTS_MODEL_DECODER_SEQUENCES_H_
