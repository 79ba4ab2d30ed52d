#ifndef COTERIE_GATEWAY_UPSTREAM_SESSION_H_
#define COTERIE_GATEWAY_UPSTREAM_SESSION_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "common/mutex.h"
#include "gateway/upstream/sequence.h"
#include "gateway/upstream/worker_pool.h"

namespace coterie::gateway {

struct SessionOptions {
  // How often one answer may move to another worker before the client hears of it: a request that kills its
  // workers must not walk through the whole cluster.
  uint32_t max_moves = 3;
  // How long an answer waits for a worker when none can take it.
  absl::Duration worker_wait = absl::Seconds(5);
  absl::Duration worker_poll = absl::Milliseconds(100);
  // Tokens a worker may run ahead of the client: what a slow reader can pile up, at the worker's pace of 50
  // per second about a second's worth.
  uint32_t window_tokens = 64;
};

// Where a sequence runs from now on.
struct SessionPlacement {
  enum class Kind { kFirst, kResumed, kResumedOtherNumerics, kReattached };
  Kind kind = Kind::kFirst;
  std::string worker;
  std::string reason;  // of the placement, or of the move
  std::string numerics_class;
};

struct SessionEnd {
  Status status;  // OK for an answer that finished in any of the ways below
  FinishReason finish = FinishReason::kNone;
  std::optional<int32_t> stop_token_id;
  std::string worker;
  std::string numerics_class;
};

// Follows one session. Called in order, never two at once, from threads that must not be held; a call must
// not call back into the session.
class SessionListener {
 public:
  virtual ~SessionListener() = default;
  virtual void OnPlaced(const SessionPlacement& placement) = 0;
  // With the first output of each attempt.
  virtual void OnStarted(uint32_t cached_prompt_tokens, absl::Duration queued) = 0;
  virtual void OnPromptLogprobs(std::vector<PositionLogprobs>&& logprobs) = 0;
  // A worker was lost before the prompt's log-probabilities were whole: they come again from the start.
  virtual void OnPromptLogprobsVoid() = 0;
  // `logprobs` is empty or as long as `ids`. False: enough; the session cancels what is left and calls no
  // more.
  virtual bool OnTokens(std::span<const int32_t> ids, std::vector<PositionLogprobs>&& logprobs) = 0;
  // The last call.
  virtual void OnEnd(const SessionEnd& end) = 0;
};

// One sequence from placement to its end, whatever happens to its workers: when one is lost it submits prompt
// and tokens so far to another, first choice one of the same numerics class, so that the text goes on as it
// would have. Tokens are passed on once, by position, in order. Thread-safe.
class Session : public SequenceObserver, public std::enable_shared_from_this<Session> {
 public:
  // `request.credit` is ignored; `placement` carries what placement asks for (its prompt length, exclusions
  // and class are filled in here; `prefix_keys` must stay valid as long as the session). The pool and the
  // timers outlive the session.
  static std::shared_ptr<Session> Start(const SessionOptions& options, WorkerPool* pool, TimerQueue* timers,
                                        SequenceRequest request, PlacementRequest placement,
                                        std::vector<uint64_t> prefix_keys,
                                        std::shared_ptr<SessionListener> listener);

  // The client took `n` more tokens: as many may come.
  void Acknowledge(uint32_t n);
  // Ends the sequence wherever it is; the listener is not called any more once this returns.
  void Cancel();

  void OnOutput(SequenceOutput output) override;
  void OnWorkerSuspect(uint64_t sequence_id) override;
  void OnReattached(uint64_t sequence_id) override;
  void OnWorkerLost(uint64_t sequence_id, const Status& why) override;

 private:
  Session(const SessionOptions& options, WorkerPool* pool, TimerQueue* timers, SequenceRequest request,
          PlacementRequest placement, std::vector<uint64_t> prefix_keys,
          std::shared_ptr<SessionListener> listener);

  // Lengths and class as they are now.
  void DescribePlacementLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void PlaceLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void WaitForWorkerLocked(const Status& why) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void MoveLocked(const Status& why) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void TakeTokensLocked(SequenceOutput& output) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void HandleErrorLocked(const Status& error) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void EndLocked(const SessionEnd& end) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void DropAttemptLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  uint32_t received() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return static_cast<uint32_t>(request_.resume_ids.size());
  }

  const SessionOptions options_;
  WorkerPool* const pool_;
  TimerQueue* const timers_;
  const std::vector<uint64_t> prefix_keys_;

  Mutex mutex_;
  std::shared_ptr<SessionListener> listener_ ABSL_GUARDED_BY(mutex_);  // null once ended
  SequenceRequest request_ ABSL_GUARDED_BY(mutex_);  // resume_ids: every token received so far
  PlacementRequest placement_ ABSL_GUARDED_BY(mutex_);

  std::shared_ptr<WorkerLink> link_ ABSL_GUARDED_BY(mutex_);  // null between attempts
  uint64_t sequence_id_ ABSL_GUARDED_BY(mutex_) = 0;          // of this attempt
  std::string worker_ ABSL_GUARDED_BY(mutex_);
  std::string numerics_class_ ABSL_GUARDED_BY(mutex_);
  bool started_ ABSL_GUARDED_BY(mutex_) = false;     // this attempt's first output came
  bool reattached_ ABSL_GUARDED_BY(mutex_) = false;  // since this attempt began
  bool placed_once_ ABSL_GUARDED_BY(mutex_) = false;
  uint32_t moves_ ABSL_GUARDED_BY(mutex_) = 0;
  std::string move_reason_ ABSL_GUARDED_BY(mutex_);
  uint32_t acknowledged_ ABSL_GUARDED_BY(mutex_) = 0;   // tokens
  uint32_t granted_until_ ABSL_GUARDED_BY(mutex_) = 0;  // position
  absl::Time wait_until_ ABSL_GUARDED_BY(mutex_) = absl::InfinitePast();
  TimerQueue::Id timer_ ABSL_GUARDED_BY(mutex_) = 0;
  Status refusal_ ABSL_GUARDED_BY(mutex_);  // the last worker's reason to take no request
};

}  // namespace coterie::gateway

#endif  // COTERIE_GATEWAY_UPSTREAM_SESSION_H_
