#ifndef COTERIE_GATEWAY_ANSWER_TASK_H_
#define COTERIE_GATEWAY_ANSWER_TASK_H_

#include <memory>
#include <string>
#include <vector>

#include "common/clock.h"
#include "common/mutex.h"
#include "gateway/access/admission.h"
#include "gateway/answer/fallback.h"
#include "gateway/answer/preparation.h"
#include "gateway/core/gateway_core.h"
#include "gateway/upstream/session.h"

namespace coterie::gateway {

// The way every request goes that needs a worker: admission, preparation, a session, an end; with a deadline
// over all of it and a way out at any point. Generation and Scoring say what happens with what the session
// brings. Lock order: the session's, then ours; so Session is never called with ours held.
class Task : public SessionListener, public std::enable_shared_from_this<Task> {
 public:
  // Once. What goes wrong later reaches Ended.
  void Begin();
  // The client is gone: nothing is reported any more.
  void Cancel();

  void OnPlaced(const SessionPlacement& placement) final;
  void OnStarted(uint32_t cached_prompt_tokens, absl::Duration queued) final;
  void OnPromptLogprobs(std::vector<PositionLogprobs>&& logprobs) final;
  void OnPromptLogprobsVoid() final;
  bool OnTokens(std::span<const int32_t> ids, std::vector<PositionLogprobs>&& logprobs) final;
  void OnEnd(const SessionEnd& end) final;

 protected:
  Task(const GatewayCore* core, const char* rpc, RequestContext context, MonotonicTime deadline);

  // The parts that differ; called with the lock held, never after the end.
  virtual PreparationRequest DescribePreparation() = 0;
  // What was asked for; these do not change.
  virtual const ExpertSelector& AskedExpert() const = 0;
  virtual const RoutingAsk& AskedRouting() const = 0;
  // Sampling, credit and logprobs of the request; the rest is filled in. An error ends the task.
  virtual Status FillSequence(const Prepared& prepared, SequenceRequest* sequence)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) = 0;
  virtual void OnPlacedLocked(const SessionPlacement& placement) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {}
  virtual void OnPromptLogprobsLocked(std::vector<PositionLogprobs>&& logprobs)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {}
  virtual void OnPromptLogprobsVoidLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {}
  // False: the answer is complete and EndLocked was called.
  virtual bool OnTokensLocked(std::span<const int32_t> ids, std::vector<PositionLogprobs>&& logprobs)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return true;
  }
  // The session finished well; calls EndLocked.
  virtual void SessionFinished(const SessionEnd& end) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) = 0;
  // Tells the client; called once, but not after Cancel.
  virtual void Ended(const Status& status) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) = 0;

  void EndLocked(const Status& status) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Acknowledge(uint32_t n_tokens);  // without the lock
  // Ends the task from outside of the session's calls; without the lock.
  void Fail(const Status& status);

  const GatewayCore* const core_;
  const char* const rpc_;
  const RequestContext context_;
  const MonotonicTime accepted_;
  const MonotonicTime deadline_;

  Mutex mutex_;
  Decision decision_ ABSL_GUARDED_BY(mutex_);
  uint32_t n_prompt_tokens_ ABSL_GUARDED_BY(mutex_) = 0;
  uint32_t cached_prompt_tokens_ ABSL_GUARDED_BY(mutex_) = 0;
  absl::Duration routed_ ABSL_GUARDED_BY(mutex_);
  absl::Duration queued_ ABSL_GUARDED_BY(mutex_);

 private:
  // An expert asked for by name is known before the request is admitted: its adapter can be loaded meanwhile.
  void PrefetchWhileWaiting();
  void Admitted(Admission::Ticket ticket);
  void PreparationDone(StatusOr<Prepared> prepared);
  // Describes the session that carries out decision_, of `sequence`, which lacks its adapters.
  struct Plan {
    SequenceRequest sequence;
    PlacementRequest placement;
    std::vector<PrefixKey> prefix_keys;
    SessionOptions options;
  };
  Plan PlanLocked(SequenceRequest sequence) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void StartSession(Plan plan);
  // The adapters of decision_ could be loaded nowhere: decides anew and asks again. False: there is nothing
  // else.
  bool FallBackLocked(const Status& why) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  std::shared_ptr<Session> CloseLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void CountRoute() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void CountExperts() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  bool admitted_ ABSL_GUARDED_BY(mutex_) = false;
  bool done_ ABSL_GUARDED_BY(mutex_) = false;
  uint64_t waiting_id_ ABSL_GUARDED_BY(mutex_) = 0;
  Admission::Ticket ticket_ ABSL_GUARDED_BY(mutex_);
  std::shared_ptr<Session> session_ ABSL_GUARDED_BY(mutex_);
  uint32_t unacknowledged_ ABSL_GUARDED_BY(mutex_) = 0;  // taken by the client before session_ was known
  std::unique_ptr<Fallback> fallback_ ABSL_GUARDED_BY(mutex_);  // until a worker began
  MonotonicTime submitted_ ABSL_GUARDED_BY(mutex_);
  TimerQueue::Id timer_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace coterie::gateway

#endif  // COTERIE_GATEWAY_ANSWER_TASK_H_
