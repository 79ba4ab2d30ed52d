#ifndef COTERIE_GATEWAY_UPSTREAM_SESSION_H_
#define COTERIE_GATEWAY_UPSTREAM_SESSION_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "common/clock.h"
#include "common/mutex.h"
#include "gateway/upstream/backoff.h"
#include "gateway/upstream/move_budget.h"
#include "gateway/upstream/sequence.h"
#include "gateway/upstream/worker_pool.h"

namespace coterie::gateway {

struct SessionOptions {
  // How often one answer may lose its worker without getting on in between (MoveBudget) before the client
  // hears of it: a request that kills its workers must not walk through the whole cluster. Hand-overs that a
  // worker planned do not count.
  uint32_t max_moves = 3;
  // How many workers may refuse it, for a full queue or an adapter that they cannot load, before that is the
  // answer.
  uint32_t max_refusals = 3;
  // How long an answer over several workers that lost one waits for another with the same members, before it
  // goes on without them.
  absl::Duration member_wait = absl::Seconds(1);
  // How long an answer waits for a worker when none can take it.
  absl::Duration worker_wait = absl::Seconds(5);
  absl::Duration worker_poll = absl::Milliseconds(100);  // doubling to five times that
  // How long a new request waits for an adapter that no worker sees: network volumes show new files late.
  absl::Duration adapter_wait = absl::Seconds(2);
  // And how long where all queues are full: they hold what has ended here until they hear of it.
  absl::Duration queue_wait = absl::Seconds(2);
  // Tokens a worker may run ahead of the client. This bounds what piles up for a slow reader: about a
  // second's worth at 50 tokens per second.
  uint32_t window_tokens = 64;
};

// Where a sequence runs from now on. Told once the worker has begun: one that refuses, or dies before, was
// none.
struct SessionPlacement {
  // As coterie.v1.Notice.
  enum class Kind { kFirst, kResumed, kResumedOtherNumerics, kReattached, kMembersLost };
  Kind kind = Kind::kFirst;
  std::string worker;
  std::string reason;  // of the placement, or of the move
  std::string numerics_class;
  bool after_loss = false;  // with kFirst: a worker was lost that had not yet begun
};

struct SessionEnd {
  Status status;  // OK for an answer that finished in any of the ways below
  FinishReason finish = FinishReason::kNone;
  std::optional<int32_t> stop_token_id;
  std::string worker;
  std::string numerics_class;
  // An adapter could not be loaded on any worker that was tried, and no token has come; which one, where that
  // is known, FailedAdapter(status) says.
  bool adapter_failed = false;
};

// Follows one session. Called in order, never two at once, from threads that must not be held; a call must
// not call back into the session.
class SessionListener {
 public:
  virtual ~SessionListener() = default;
  virtual void OnPlaced(const SessionPlacement& placement) = 0;
  // With the first output of each attempt, after its OnPlaced.
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
  // `request.initial_credit` is ignored; `placement` carries what placement asks for (its prompt length,
  // exclusions and class are filled in here; `prefix_keys` must stay valid as long as the session). The pool
  // and the timers outlive the session.
  static std::shared_ptr<Session> Start(const SessionOptions& options, WorkerPool* pool, TimerQueue* timers,
                                        SequenceRequest request, PlacementRequest placement,
                                        std::vector<PrefixKey> prefix_keys,
                                        std::shared_ptr<SessionListener> listener);

  // The client took `n` more tokens: as many may come.
  void Acknowledge(uint32_t n);
  // Ends the sequence wherever it is; the listener is not called any more once this returns.
  void Cancel();

  void OnOutput(SequenceOutput output) override;
  void OnWorkerSuspect(uint64_t sequence_id) override;
  void OnReattached(uint64_t sequence_id) override;
  void OnWorkerLost(uint64_t sequence_id, const WorkerLoss& loss) override;

 private:
  Session(const SessionOptions& options, WorkerPool* pool, TimerQueue* timers, SequenceRequest request,
          PlacementRequest placement, std::vector<PrefixKey> prefix_keys,
          std::shared_ptr<SessionListener> listener);

  // Lengths and class as they are now.
  void DescribePlacementLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Submits to the best worker. On threads that may be held for a placement only.
  void PlaceLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // On the placement pool: at once, or after a while.
  void PlaceLaterLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void PlaceAfterLocked(absl::Duration delay) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Members of a running mixture that no worker holds: goes on without them, where it has waited for them
  // long enough. False: it has not, or it is not that.
  bool GoOnWithoutLocked(const std::vector<uint32_t>& homeless) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Nobody takes the sequence now: ends it, or tries again later.
  void NobodyTakesItLocked(const Status& why) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Why no worker took it, for the client; OK while it should go on waiting.
  SessionEnd WhyNobodyLocked(const Status& why, MonotonicTime now) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Tells the listener where the sequence runs, and that its connection was taken up again.
  void AnnounceLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void ReportReattachedLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Fails over: the worker was lost together with the sequence, which goes on elsewhere.
  void MoveLocked(const WorkerLoss& loss) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // The worker did not take the sequence: the next one may.
  // Which worker an error came through.
  std::string WorkerAtFaultLocked(const Status& error) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void TryAnotherLocked(const std::string& worker) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void TakeTokensLocked(SequenceOutput& output) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void HandleErrorLocked(const SequenceOutput& output) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Whether `error` speaks of an adapter that this worker cannot load.
  bool IsAdapterErrorLocked(const Status& error) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Whether the lost worker had no room for more and was about to say so.
  bool WasWholeLocked() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void EndLocked(const SessionEnd& end) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // This attempt in the request's trace: the worker's own spans are below it.
  void TraceAttemptLocked(MonotonicTime placing_began) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void CloseAttemptLocked(const Status& status) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void DropAttemptLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  uint32_t received() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return static_cast<uint32_t>(request_.resume_ids.size());
  }

  const SessionOptions options_;
  WorkerPool* const pool_;
  TimerQueue* const timers_;
  const std::vector<PrefixKey> prefix_keys_;

  Mutex mutex_;
  std::shared_ptr<SessionListener> listener_ ABSL_GUARDED_BY(mutex_);  // null once ended
  SequenceRequest request_ ABSL_GUARDED_BY(mutex_);  // resume_ids: every token received so far
  PlacementRequest placement_ ABSL_GUARDED_BY(mutex_);

  // This attempt, or the last one.
  std::shared_ptr<SequenceHome> link_ ABSL_GUARDED_BY(mutex_);  // null between attempts
  uint64_t sequence_id_ ABSL_GUARDED_BY(mutex_) = 0;
  std::string worker_ ABSL_GUARDED_BY(mutex_);
  std::string worker_class_ ABSL_GUARDED_BY(mutex_);
  bool worker_invariant_ ABSL_GUARDED_BY(mutex_) = true;  // its tokens depend on nothing but this sequence
  uint64_t worker_room_ ABSL_GUARDED_BY(mutex_) = 0;      // tokens of prompt and answer; 0: not said
  std::string placement_reason_ ABSL_GUARDED_BY(mutex_);
  SpanId attempt_span_ ABSL_GUARDED_BY(mutex_);
  bool started_ ABSL_GUARDED_BY(mutex_) = false;  // its first output came
  bool reattached_ ABSL_GUARDED_BY(mutex_) = false;

  bool announced_ ABSL_GUARDED_BY(mutex_) = false;  // the listener knows of a placement
  // Of the worker that the latest tokens came from.
  std::string numerics_class_ ABSL_GUARDED_BY(mutex_);
  bool invariant_ ABSL_GUARDED_BY(mutex_) = true;
  MoveBudget budget_ ABSL_GUARDED_BY(mutex_);
  uint32_t n_losses_ ABSL_GUARDED_BY(mutex_) = 0;  // unplanned ones
  bool moved_ ABSL_GUARDED_BY(mutex_) = false;     // a worker was lost since the last announcement
  std::string move_reason_ ABSL_GUARDED_BY(mutex_);
  bool members_lost_ ABSL_GUARDED_BY(mutex_) = false;   // likewise
  uint32_t acknowledged_ ABSL_GUARDED_BY(mutex_) = 0;   // tokens
  uint32_t granted_until_ ABSL_GUARDED_BY(mutex_) = 0;  // position

  // While no worker has begun it.
  MonotonicTime waits_since_ ABSL_GUARDED_BY(mutex_) = MonotonicTime::InfiniteFuture();
  Backoff poll_ ABSL_GUARDED_BY(mutex_);  // how long until workers are asked again
  TimerQueue::Id timer_ ABSL_GUARDED_BY(mutex_) = 0;
  // Refusals in this round, which ends when every fit worker was asked or so many of them refused.
  uint32_t n_refusals_ ABSL_GUARDED_BY(mutex_) = 0;
  Status refusal_ ABSL_GUARDED_BY(mutex_);        // the last full queue
  Status adapter_error_ ABSL_GUARDED_BY(mutex_);  // the last adapter that could not be loaded
};

}  // namespace coterie::gateway

#endif  // COTERIE_GATEWAY_UPSTREAM_SESSION_H_
