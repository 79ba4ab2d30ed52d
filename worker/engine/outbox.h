#ifndef COTERIE_WORKER_ENGINE_OUTBOX_H_
#define COTERIE_WORKER_ENGINE_OUTBOX_H_

#include "common/clock.h"
#include "common/mutex.h"
#include "worker/engine/output_batch.h"

namespace coterie {

// Where the engine's thread leaves what its steps produced for one consumer. A few OutputBatches go round, so
// that in steady state nothing is allocated.
class Outbox {
 public:
  // Room for what `max_seqs` sequences say.
  explicit Outbox(int max_seqs) : max_seqs_(max_seqs) { ready_batch_.Reserve(max_seqs); }

  // Moves `pending` behind what is here and leaves it clear. When the consumer holds the lock at that very
  // moment and `may_wait` is false, `pending` stays as it is, to go with the next step's.
  void Put(OutputBatch* pending, bool may_wait);

  // See Engine::WaitOutputs and InterruptWait.
  bool Wait(OutputBatch* batch, MonotonicTime deadline);
  void InterruptWait();

 private:
  const int max_seqs_;
  Mutex mutex_;
  CondVar ready_;
  OutputBatch ready_batch_ ABSL_GUARDED_BY(mutex_);
  bool interrupted_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace coterie

#endif  // COTERIE_WORKER_ENGINE_OUTBOX_H_
