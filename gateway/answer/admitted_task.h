#ifndef COTERIE_GATEWAY_ANSWER_ADMITTED_TASK_H_
#define COTERIE_GATEWAY_ANSWER_ADMITTED_TASK_H_

#include <cstdint>
#include <memory>
#include <string>

#include "common/clock.h"
#include "common/mutex.h"
#include "common/trace/trace.h"
#include "gateway/access/admission.h"
#include "gateway/core/gateway_core.h"
#include "gateway/runtime/cancel_flag.h"

namespace coterie::gateway {

// The way every request for work goes: through its key's quotas and admission, on its way with a ticket, to
// an end, which it reaches once; with a deadline over all of it and a way out at any point. What each kind
// does in between is the derived classes'. Thread-safe.
class AdmittedTask : public std::enable_shared_from_this<AdmittedTask> {
 public:
  virtual ~AdmittedTask() = default;
  // Once. What goes wrong later reaches Ended.
  void Begin();
  // The client is gone: nothing is reported any more, and what was begun for it ends wherever it stands.
  void Cancel();

 protected:
  AdmittedTask(const GatewayCore* core, const char* rpc, Admission::Kind kind, uint32_t cost,
               RequestContext context, MonotonicTime deadline);

  // What is done with the ticket; called once, without the lock, not after the end. Must not wait.
  virtual void Run() = 0;
  // It waits for its ticket.
  virtual void OnWaiting() {}
  // It is over, whichever way; called once, before Ended.
  virtual void OnClosedLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {}
  // Tells the client; called once, but not after Cancel.
  virtual void Ended(const Status& status) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) = 0;

  void EndLocked(const Status& status) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Ends it from outside of the session's calls; without the lock.
  void Fail(const Status& status);

  const GatewayCore* const core_;
  const char* const rpc_;
  const RequestContext context_;
  const MonotonicTime accepted_;
  const MonotonicTime deadline_;
  const Trace trace_;  // its first span is the request
  CancelFlag over_;    // set at the end, for what was begun and nobody needs any more

  Mutex mutex_;
  bool done_ ABSL_GUARDED_BY(mutex_) = false;
  Admission::Ticket ticket_ ABSL_GUARDED_BY(mutex_);
  std::shared_ptr<Session> session_ ABSL_GUARDED_BY(mutex_);  // null without a worker

 private:
  void Admitted(StatusOr<Admission::Ticket> ticket);
  std::shared_ptr<Session> CloseLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const Admission::Kind kind_;
  const uint32_t cost_;
  bool holds_pass_ ABSL_GUARDED_BY(mutex_) = false;
  bool admitted_ ABSL_GUARDED_BY(mutex_) = false;
  uint64_t waiting_id_ ABSL_GUARDED_BY(mutex_) = 0;
  TimerQueue::Id timer_ ABSL_GUARDED_BY(mutex_) = 0;
  SpanId waiting_span_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace coterie::gateway

#endif  // COTERIE_GATEWAY_ANSWER_ADMITTED_TASK_H_
