#ifndef COTERIE_WORKER_ENGINE_INBOX_H_
#define COTERIE_WORKER_ENGINE_INBOX_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <vector>

#include "common/clock.h"
#include "common/digest.h"
#include "common/mutex.h"
#include "common/status.h"
#include "worker/engine/sequence.h"

namespace coterie {

struct CreditGrant {
  uint64_t id = 0;
  uint32_t tokens = 0;  // or a position in the answer
  bool absolute = false;
};

// The token of a gang's sequence, drawn by the gang's leader.
struct DrawnToken {
  uint64_t id = 0;
  uint32_t position = 0;  // in the answer
  int32_t token = 0;      // or kNotFinite
  std::vector<TokenLogprob> logprobs;
};

struct FailNote {
  uint64_t id = 0;
  Status why;
};

// What callers have asked for since the engine last looked.
struct InboxNotes {
  std::vector<std::unique_ptr<Sequence>> submits;
  std::vector<DrawnToken> drawn;
  std::vector<FailNote> fails;
  std::vector<CreditGrant> credits;
  std::vector<uint64_t> cancels;
  std::vector<Digest> prefetches;
  Status end_all;  // not ok: end every sequence with it

  bool empty() const {
    return submits.empty() && drawn.empty() && fails.empty() && credits.empty() && cancels.empty() &&
           prefetches.empty() && end_all.ok();
  }
  void Clear();
};

// Where any thread leaves notes for the engine's thread, which never waits for them while it has work.
class Inbox {
 public:
  // --- Any thread. ---
  void Submit(std::unique_ptr<Sequence> sequence);
  void PutToken(DrawnToken drawn);
  void Fail(FailNote note);
  void Credit(const CreditGrant& grant);
  void Cancel(uint64_t id);
  void Prefetch(const Digest& adapter);  // a hint: dropped when there are many
  void EndAll(Status status);
  void Wake();
  void Stop();
  bool stopping() const { return stopping_.load(std::memory_order_relaxed); }

  // --- The engine's thread. ---
  // Swaps the notes into `taken`, which is clear. Does nothing when somebody holds the lock at that moment.
  void TryTake(InboxNotes* taken);
  // Until there is a note, a Wake or a Stop, or `deadline` has passed.
  void WaitUntil(MonotonicTime deadline);

 private:
  Mutex mutex_;
  CondVar changed_;
  InboxNotes notes_ ABSL_GUARDED_BY(mutex_);
  bool woken_ ABSL_GUARDED_BY(mutex_) = false;
  std::atomic<bool> stopping_{false};  // written under the lock
};

}  // namespace coterie

#endif  // COTERIE_WORKER_ENGINE_INBOX_H_
