#ifndef COTERIE_WORKER_ENGINE_STEP_BATCH_H_
#define COTERIE_WORKER_ENGINE_STEP_BATCH_H_

#include <span>
#include <vector>

#include "kernels/batch.h"
#include "model/decoder/language_model.h"
#include "worker/engine/scheduler.h"

namespace coterie {

// Turns a plan into the Batch the model reads. Reused from step to step, so that nothing is allocated.
class StepBatchBuilder {
 public:
  // Reserves for the largest step of a model with such `info`.
  StepBatchBuilder(int max_tokens, int max_seqs, int max_blocks, int max_logit_rows, int n_slots,
                   const LanguageModelInfo& info);

  // The batch is valid until the next Build. Its logit_top_k is empty unless there is a row of which the
  // model may keep less than the whole.
  const Batch& Build(std::span<const StepEntry> plan);

 private:
  int TopNeeded(const Sequence& sequence, int position) const;

  const int vocab_size_;
  const int max_top_logits_;
  Batch batch_;
  std::vector<int32_t> index_of_slot_;  // [n_slots], position in batch_.adapters, -1 outside
};

// Gives out what a step left of the batch's logit rows, one after the other: one of the two spans of each.
// Borrows both arguments.
class LogitRowReader {
 public:
  LogitRowReader(const Batch& batch, const StepLogits& logits, int vocab_size)
      : batch_(batch), rest_(logits), vocab_size_(static_cast<size_t>(vocab_size)) {}
  // CHECKs that the model gave what the batch asked for.
  StepLogits Next();

 private:
  const Batch& batch_;
  StepLogits rest_;  // of the rows not given out yet
  const size_t vocab_size_;
  size_t row_ = 0;
};

}  // namespace coterie

#endif  // COTERIE_WORKER_ENGINE_STEP_BATCH_H_
