#ifndef COTERIE_WORKER_ENGINE_STEP_BATCH_H_
#define COTERIE_WORKER_ENGINE_STEP_BATCH_H_

#include <cstdint>
#include <span>
#include <vector>

#include "kernels/batch.h"
#include "model/decoder/language_model.h"
#include "worker/engine/scheduler.h"

namespace coterie {

// What one of a step's logit rows is for.
struct StepRow {
  enum class Use : uint8_t {
    kChooses,  // the answer's next token
    kScores,   // the prompt's token at position + 1
    kIsMixed,  // a further row of a mixture: what came of it stands with the mixture's first row
  };
  Sequence* sequence = nullptr;
  int position = 0;  // of the token whose logits it holds
  Use use = Use::kChooses;
  int n_logprobs = 0;         // entries of StepResult::logprobs
  bool tells_logits = false;  // of a gang's sequence: a row of StepResult::logits
};

// Turns a plan into the Batch the model reads. Reused from step to step, so that nothing is allocated.
class StepBatchBuilder {
 public:
  // Reserves for the largest step.
  // `late_masks`: of rows with a constraint the mask may come while the step is computed (LateMask).
  StepBatchBuilder(int max_tokens, int max_seqs, int max_blocks, int max_logit_rows, int vocab_size,
                   bool late_masks);

  // The batch is valid until the next Build. `rows` gets the batch's logit rows, in its order. Sequences note
  // which row chooses for them, and that their token counts are on their way.
  const Batch& Build(std::span<const StepEntry> plan, std::vector<StepRow>* rows);

 private:
  void AddSequence(const StepEntry& entry, std::vector<StepRow>* rows);
  void AddTokens(const StepEntry& entry, int row, int32_t chosen_by, std::vector<StepRow>* rows);
  void AddLogitRow(Sequence* sequence, int row, int position, std::vector<StepRow>* rows);
  void AddToldRow(Sequence* sequence, int row, int position, std::vector<StepRow>* rows);
  RowSampling SamplingOf(Sequence* sequence, int position, bool scores);
  void AddBlocks(const StepEntry& entry, SequenceRow* row);
  int AddAdapters(const Sequence& sequence, int first, int n);
  void ResetCounts(Sequence* sequence);

  void AddMask(const AnswerMasks& masks, RowSampling* row);

  const int vocab_size_;
  const bool late_masks_;
  Batch batch_;
};

}  // namespace coterie

#endif  // COTERIE_WORKER_ENGINE_STEP_BATCH_H_
