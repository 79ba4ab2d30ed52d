#include "worker/engine/outbox.h"

#include <utility>

namespace coterie {

void Outbox::Put(OutputBatch* pending, bool may_wait) {
  if (pending->empty()) return;
  if (may_wait) {
    mutex_.Lock();
  } else if (!mutex_.TryLock()) {
    return;
  }
  if (ready_batch_.empty()) {
    std::swap(ready_batch_, *pending);
  } else {
    ready_batch_.Append(pending);
  }
  ready_.Signal();
  mutex_.Unlock();
}

bool Outbox::Wait(OutputBatch* batch, MonotonicTime deadline) {
  batch->Clear();
  batch->Reserve(max_seqs_);  // it will be the engine's next
  MutexLock lock(&mutex_);
  while (ready_batch_.empty() && !interrupted_) {
    if (!ready_.WaitUntil(&mutex_, deadline)) break;
  }
  interrupted_ = false;
  if (ready_batch_.empty()) return false;
  std::swap(*batch, ready_batch_);
  return true;
}

void Outbox::InterruptWait() {
  MutexLock lock(&mutex_);
  interrupted_ = true;
  ready_.Signal();
}

}  // namespace coterie
