#include "gateway/answer/admitted_task.h"

#include <algorithm>
#include <utility>

#include "common/log/log.h"
#include "gateway/access/access_pass.h"
#include "gateway/answer/request_log.h"
#include "gateway/watch/shadow_traffic.h"

namespace coterie::gateway {

AdmittedTask::AdmittedTask(const GatewayCore* core, const char* rpc, Admission::Kind kind, uint32_t cost,
                           RequestContext context, MonotonicTime deadline)
    : core_(core),
      rpc_(rpc),
      context_(std::move(context)),
      accepted_(MonotonicNow()),
      deadline_(std::min(deadline, accepted_ + core->limits.max_time)),
      trace_(core->tracer.Begin(context_.caller_trace, TraceId::FromHex(context_.trace_id), rpc,
                                SpanKind::kServer, accepted_)),
      kind_(kind),
      cost_(cost) {
  if (!trace_) return;
  trace_.Note(trace_.root(), {"coterie.tenant", context_.tenant});
  trace_.Note(trace_.root(), {"coterie.trace_id", context_.trace_id});  // as logs have it
}

void AdmittedTask::Begin() {
  core_->metrics->tenant_requests.Increment(context_.tenant);
  if (context_.pass != nullptr) {
    if (const Status quota = context_.pass->Enter(); !quota.ok()) return Fail(quota);
    MutexLock lock(&mutex_);
    if (done_) return context_.pass->Leave();
    holds_pass_ = true;
  }
  {
    MutexLock lock(&mutex_);
    waiting_span_ = trace_.Open(trace_.root(), "admission");
    timer_ = core_->timers->At(deadline_, [weak = weak_from_this()] {
      if (const auto self = weak.lock()) {
        self->Fail(absl::DeadlineExceededError(absl::StrCat(
            "the request's time was over after ", absl::FormatDuration(self->deadline_ - self->accepted_))));
      }
    });
  }
  StatusOr<uint64_t> id = core_->admission->Enter(
      {kind_, context_.tenant, context_.connection, context_.priority, cost_, deadline_},
      [self = shared_from_this()](StatusOr<Admission::Ticket> ticket) { self->Admitted(std::move(ticket)); });
  if (core_->shadow != nullptr) core_->shadow->MakeWay();  // after Enter: it looks at what runs and waits
  if (!id.ok()) return Fail(id.status());
  bool waits = false;
  {
    MutexLock lock(&mutex_);
    waiting_id_ = *id;
    if (done_) core_->admission->Leave(*id);
    waits = !done_ && !admitted_;
  }
  if (waits) OnWaiting();
}

void AdmittedTask::Admitted(StatusOr<Admission::Ticket> ticket) {
  if (!ticket.ok()) return Fail(ticket.status());
  {
    MutexLock lock(&mutex_);
    if (done_) return;
    admitted_ = true;
    trace_.Close(waiting_span_);
    ticket_ = *std::move(ticket);
  }
  Run();
}

std::shared_ptr<Session> AdmittedTask::CloseLocked() {
  done_ = true;
  over_.Set();
  OnClosedLocked();
  trace_.Close(waiting_span_);
  // Before anybody hears of the end: the client's next request may be quicker than what is left to do here.
  if (std::exchange(holds_pass_, false)) context_.pass->Leave();
  core_->timers->Cancel(timer_);
  if (waiting_id_ != 0) core_->admission->Leave(waiting_id_);
  ticket_.Release();
  return std::move(session_);
}

void AdmittedTask::EndLocked(const Status& status) {
  if (done_) return;
  CloseLocked();
  trace_.Close(trace_.root(), status);
  {
    const LogTrace line(context_.trace_id, trace_.root());
    core_->request_log->Ended(rpc_, status, MonotonicNow());
  }
  core_->metrics->CountRequest(rpc_, status);
  if (kind_ == Admission::Kind::kAnswer) {
    core_->metrics->end_to_end.Observe(absl::ToDoubleSeconds(MonotonicNow() - accepted_));
  }
  Ended(status);
}

void AdmittedTask::Fail(const Status& status) {
  std::shared_ptr<Session> session;
  {
    MutexLock lock(&mutex_);
    if (done_) return;
    session = session_;
    EndLocked(status);
  }
  if (session != nullptr) session->Cancel();
}

void AdmittedTask::Cancel() {
  std::shared_ptr<Session> session;
  {
    MutexLock lock(&mutex_);
    if (done_) return;
    session = CloseLocked();
    // At the client's deadline its gRPC cancels too, and may be quicker than our timer.
    const Status why = MonotonicNow() < deadline_ ? absl::CancelledError("the client is gone")
                                                  : absl::DeadlineExceededError("the client's deadline");
    trace_.Close(trace_.root(), why);
    core_->metrics->CountRequest(rpc_, why);
  }
  if (session != nullptr) session->Cancel();
}

}  // namespace coterie::gateway
