#ifndef COTERIE_GATEWAY_ANSWER_TASK_H_
#define COTERIE_GATEWAY_ANSWER_TASK_H_

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "common/clock.h"
#include "common/mutex.h"
#include "gateway/answer/admitted_task.h"
#include "gateway/answer/fallback.h"
#include "gateway/answer/preparation.h"
#include "gateway/core/gateway_core.h"
#include "gateway/upstream/session.h"

namespace coterie::gateway {

// The way every request goes that needs a worker: preparation, then a session. Generation and Scoring say
// what happens with what the session brings. Whoever does not read what it is given (Acknowledge) lends its
// place to others once it has used up its credit. Lock order: the session's, then ours; so Session is never
// called with ours held.
class Task : public SessionListener, public AdmittedTask {
 public:
  void OnPlaced(const SessionPlacement& placement) final;
  void OnStarted(uint32_t cached_prompt_tokens, absl::Duration queued) final;
  void OnPromptLogprobs(std::vector<PositionLogprobs>&& logprobs) final;
  void OnPromptLogprobsVoid() final;
  bool OnTokens(std::span<const int32_t> ids, std::vector<PositionLogprobs>&& logprobs) final;
  void OnEnd(const SessionEnd& end) final;

 protected:
  Task(const GatewayCore* core, const char* rpc, RequestContext context, MonotonicTime deadline)
      : AdmittedTask(core, rpc, Admission::Kind::kAnswer, 1, std::move(context), deadline) {}

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
  // Who answers, for metrics: the experts' names, or "base".
  std::vector<std::string> AnsweringLocked() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Acknowledge(uint32_t n_tokens);  // without the lock

  Decision decision_ ABSL_GUARDED_BY(mutex_);
  uint32_t n_prompt_tokens_ ABSL_GUARDED_BY(mutex_) = 0;
  uint32_t cached_prompt_tokens_ ABSL_GUARDED_BY(mutex_) = 0;
  absl::Duration routed_ ABSL_GUARDED_BY(mutex_);
  absl::Duration queued_ ABSL_GUARDED_BY(mutex_);

 private:
  void Run() final;
  // Experts asked for by name are known before the request is admitted: their adapters can be loaded
  // meanwhile.
  void OnWaiting() final;
  std::shared_ptr<Task> Self() { return std::static_pointer_cast<Task>(shared_from_this()); }
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
  // So many tokens went to a client that has not taken them yet. False: it reads too slowly and was told so.
  bool CountUnreadLocked(size_t n_tokens) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void CountRoute() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void CountExperts() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  void OnClosedLocked() final ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  size_t n_generated_ ABSL_GUARDED_BY(mutex_) = 0;       // tokens
  uint32_t n_unread_ ABSL_GUARDED_BY(mutex_) = 0;        // tokens
  bool paused_ ABSL_GUARDED_BY(mutex_) = false;          // the place is lent, since nobody reads
  uint32_t unacknowledged_ ABSL_GUARDED_BY(mutex_) = 0;  // taken by the client before session_ was known
  std::unique_ptr<Fallback> fallback_ ABSL_GUARDED_BY(mutex_);  // until a worker began
  MonotonicTime submitted_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace coterie::gateway

#endif  // COTERIE_GATEWAY_ANSWER_TASK_H_
