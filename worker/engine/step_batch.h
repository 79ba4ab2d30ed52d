#ifndef COTERIE_WORKER_ENGINE_STEP_BATCH_H_
#define COTERIE_WORKER_ENGINE_STEP_BATCH_H_

#include <span>
#include <vector>

#include "kernels/batch.h"
#include "worker/engine/scheduler.h"

namespace coterie {

// Turns a plan into the Batch the model reads. Reused from step to step, so that nothing is allocated.
class StepBatchBuilder {
 public:
  // Reserves for the largest step.
  StepBatchBuilder(int max_tokens, int max_seqs, int max_blocks, int max_logit_rows, int n_slots);

  // The batch is valid until the next Build.
  const Batch& Build(std::span<const StepEntry> plan);

 private:
  Batch batch_;
  std::vector<int32_t> index_of_slot_;  // [n_slots], position in batch_.adapters, -1 outside
};

}  // namespace coterie

#endif  // COTERIE_WORKER_ENGINE_STEP_BATCH_H_
