#ifndef COTERIE_WORKER_ENGINE_STEP_BATCH_H_
#define COTERIE_WORKER_ENGINE_STEP_BATCH_H_

#include <span>
#include <vector>

#include "kernels/batch.h"
#include "model/decoder/language_model.h"
#include "worker/engine/scheduler.h"

namespace coterie {

// What one of a step's logit rows is for.
struct StepRow {
  Sequence* sequence = nullptr;
  int position = 0;     // of the token whose logits it holds
  bool scores = false;  // the prompt's token at position + 1; else it chooses the answer's next token
  int n_logprobs = 0;   // entries of StepResult::logprobs
};

// Turns a plan into the Batch the model reads. Reused from step to step, so that nothing is allocated.
class StepBatchBuilder {
 public:
  // Reserves for the largest step.
  StepBatchBuilder(int max_tokens, int max_seqs, int max_blocks, int max_logit_rows, int vocab_size);

  // The batch is valid until the next Build. `rows` gets the batch's logit rows, in its order. Sequences note
  // which row chooses for them, and that their token counts are on their way.
  const Batch& Build(std::span<const StepEntry> plan, std::vector<StepRow>* rows);

 private:
  void AddTokens(const StepEntry& entry, std::vector<StepRow>* rows);
  void AddRow(Sequence* sequence, int position, std::vector<StepRow>* rows);
  void AddBlocks(const StepEntry& entry);
  void AddAdapters(const Sequence& sequence);
  void ResetCounts(Sequence* sequence);

  const int vocab_size_;
  Batch batch_;
};

}  // namespace coterie

#endif  // COTERIE_WORKER_ENGINE_STEP_BATCH_H_
