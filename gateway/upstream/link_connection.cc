// The connection to a worker: kept up by heartbeats, taken up again when it breaks, and given up with the
// worker when heartbeats are lost for too long (then its answers fail over: Session::MoveLocked).
// WorkerLinkImpl.
#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/clock.h"
#include "common/log/named.h"
#include "gateway/upstream/convert_worker.h"
#include "gateway/upstream/link_errors.h"
#include "gateway/upstream/worker_link_impl.h"
#include "spdlog/spdlog.h"

namespace coterie::gateway {

// --- Connecting ---

void WorkerLinkImpl::Connect() {
  MutexLock lock(&mutex_);
  if (stopped_ || stream_ != nullptr) return;
  state_.SetLink(weak_from_this());  // which a constructor cannot know
  v1::GatewayMessage message;
  *message.mutable_hello() = HelloToProto(options_);
  proven_ = options_.secret == nullptr;
  if (!proven_) {
    nonce_ = SharedSecret::DrawNonce();
    message.mutable_hello()->set_nonce(nonce_);
  }
  heartbeats_.Begin(MonotonicNow());
  attached_ = false;
  stream_ = WorkerStream::Start(shared_from_this(), {address_, options_.tls, options_.tls_name}, message,
                                options_.max_outgoing, streams_);
  ScheduleTick();
}

void WorkerLinkImpl::ScheduleReconnect(absl::Duration delay) {
  if (stopped_) return;
  timers_->Cancel(reconnect_);
  reconnect_ = timers_->After(delay, Weakly(&WorkerLinkImpl::Connect));
}

std::function<void()> WorkerLinkImpl::Weakly(void (WorkerLinkImpl::*method)()) {
  return [weak = weak_from_this(), method] {
    if (const auto self = weak.lock()) ((*self).*method)();
  };
}

void WorkerLinkImpl::OnClosed(WorkerStream* stream, const grpc::Status& status) {
  Lost lost;
  Observed suspected;
  {
    MutexLock lock(&mutex_);
    if (stream != stream_.get()) return;  // given up before
    stream_.reset();
    timers_->Cancel(tick_);
    const bool was_attached = std::exchange(attached_, false);
    if (stopped_) return;
    const std::string words =
        absl::StrCat("connection to worker ", address_,
                     " ended: ", status.error_message().empty() ? "closed" : status.error_message());
    if (IsRefusal(status)) {
      lost = RefuseWorker(absl::UnavailableError(words), status.error_message());
    } else if (was_attached && state_.levels().device_lost) {
      NoteFailureOnce(MonotonicNow());
      lost =
          LoseWorker(absl::UnavailableError(absl::StrCat("worker ", address_, " lost its device and left")));
      ScheduleReconnect(backoff_.Next());
    } else if (was_attached && state_.levels().draining) {
      lost = LoseWorker(absl::UnavailableError(absl::StrCat("worker ", address_, " drained and left")),
                        /*planned=*/true);
      ScheduleReconnect(backoff_.Next());
    } else if (was_attached) {
      NoteFailure(MonotonicNow());
      BeginGrace(words);
      suspected = sequences_.All();
      ScheduleReconnect(absl::ZeroDuration());
    } else if (health_ == WorkerHealth::kSuspect && PortIsClosed(status)) {
      lost = LoseWorker(absl::UnavailableError(
          absl::StrCat("worker ", address_, " is gone: its port refuses connections")));
      ScheduleReconnect(backoff_.Next());
    } else {
      if (health_ != WorkerHealth::kRefused) message_ = words;
      ScheduleReconnect(health_ == WorkerHealth::kRefused ? options_.refused_retry : backoff_.Next());
    }
    Publish();
  }
  SuspectLater(std::move(suspected));
  TellLater(std::move(lost));
}

void WorkerLinkImpl::BeginGrace(const std::string& words) {
  health_ = WorkerHealth::kSuspect;
  message_ = words;
  absl::Duration grace = options_.reattach_grace;
  if (identity_.reattach_grace_ms > 0) {
    grace = std::min(grace, absl::Milliseconds(identity_.reattach_grace_ms));
  }
  spdlog::warn("{}; waiting {} for it to come back", Named("why", words),
               Named("grace", absl::FormatDuration(grace)));
  timers_->Cancel(grace_);
  grace_ = timers_->After(grace, Weakly(&WorkerLinkImpl::OnGraceOver));
}

void WorkerLinkImpl::OnGraceOver() {
  Lost lost;
  {
    MutexLock lock(&mutex_);
    if (stopped_ || health_ != WorkerHealth::kSuspect) return;
    lost = TakeSequences({absl::UnavailableError(message_)});
    MarkGone(WorkerHealth::kLost, std::string(message_), /*planned=*/false);
    Publish();
  }
  TellLater(std::move(lost));
}

// --- Heartbeats ---

void WorkerLinkImpl::ScheduleTick() {
  tick_ = timers_->After(options_.heartbeat_interval, Weakly(&WorkerLinkImpl::Tick));
}

void WorkerLinkImpl::Tick() {
  Lost lost;
  Observed suspected;
  {
    MutexLock lock(&mutex_);
    if (stopped_ || stream_ == nullptr) return;
    const MonotonicTime now = MonotonicNow();
    switch (heartbeats_.Tick(now, attached_ ? stream_->unwritten_since() : MonotonicTime::InfiniteFuture())) {
      case HeartbeatWatch::Verdict::kLost:
        lost = GiveUpSilent(now);
        break;
      case HeartbeatWatch::Verdict::kSuspect:
        if (attached_) suspected = sequences_.All();
        [[fallthrough]];
      case HeartbeatWatch::Verdict::kHeard:
        if (attached_) SendHeartbeat();
        ScheduleTick();
        break;
    }
    Publish();
  }
  SuspectLater(std::move(suspected));
  TellLater(std::move(lost));
}

void WorkerLinkImpl::SendHeartbeat() {
  v1::GatewayMessage message;
  message.mutable_heartbeat()->set_counter(++n_heartbeats_sent_);
  SendOrBreak(std::move(message));
}

WorkerLinkImpl::Lost WorkerLinkImpl::GiveUpSilent(MonotonicTime now) {
  Lost lost;
  if (attached_) {
    const bool planned = state_.levels().draining && !state_.levels().device_lost;
    if (!planned) NoteFailure(now);
    lost = LoseWorker(absl::UnavailableError(absl::StrCat("worker ", address_, " said nothing for ",
                                                          absl::FormatDuration(heartbeats_.silence(now)))),
                      planned);
  } else {
    DropStream();
    if (health_ != WorkerHealth::kRefused) {
      message_ = absl::StrCat("worker ", address_, " did not answer within ",
                              absl::FormatDuration(options_.silence_timeout));
    }
  }
  ScheduleReconnect(backoff_.Next());
  return lost;
}

// --- Loss ---

// Its sequences fail together and in several messages, and the connection ends behind them: one failure.
void WorkerLinkImpl::NoteFailureOnce(MonotonicTime now) {
  if (now - outliers_.last_failure() > absl::Seconds(1)) NoteFailure(now);
}

void WorkerLinkImpl::NoteFailure(MonotonicTime now) {
  if (!outliers_.Fail(now)) return;
  spdlog::warn("worker {} failed {} times of late: new answers go elsewhere for {}",
               Named("address", address_), Named("failures", outliers_.failures()),
               Named("ejected_for", absl::FormatDuration(outliers_.ejected_for(now))));
}

WorkerLinkImpl::Lost WorkerLinkImpl::TakeSequences(WorkerLoss loss) {
  return {sequences_.TakeAll(), std::move(loss)};
}

void WorkerLinkImpl::MarkGone(WorkerHealth health, std::string why, bool planned) {
  // A worker that is refused is tried again every few seconds, for days perhaps: said once.
  const bool is_news = health_ != health || message_ != why;
  health_ = health;
  message_ = std::move(why);
  state_.Reset();
  if (stopped_ || !is_news) return;
  if (planned) {
    spdlog::info("worker {} left: {}", Named("address", address_), Named("why", message_));
  } else {
    spdlog::warn("worker {} {}: {}", Named("address", address_),
                 Named("state", health == WorkerHealth::kRefused ? "refused" : "lost"),
                 Named("why", message_));
  }
}

WorkerLinkImpl::Lost WorkerLinkImpl::LoseWorker(Status why, bool planned) {
  DropStream();
  timers_->Cancel(grace_);
  Lost lost = TakeSequences({std::move(why), planned});
  MarkGone(WorkerHealth::kLost, std::string(lost.loss.why.message()), planned);
  return lost;
}

WorkerLinkImpl::Lost WorkerLinkImpl::RefuseWorker(Status why, std::string message) {
  DropStream();
  timers_->Cancel(grace_);
  MarkGone(WorkerHealth::kRefused, std::move(message), /*planned=*/false);
  ScheduleReconnect(options_.refused_retry);
  return TakeSequences({std::move(why)});
}

void WorkerLinkImpl::DropStream() {
  if (stream_ != nullptr) stream_->Stop();
  stream_.reset();
  attached_ = false;
  timers_->Cancel(tick_);
}

void WorkerLinkImpl::TellLater(Lost lost) {
  if (lost.observers.empty()) return;
  Later([lost = std::move(lost)] {
    for (auto& [id, observer] : lost.observers) observer->OnWorkerLost(id, lost.loss);
  });
}

void WorkerLinkImpl::SuspectLater(Observed suspected) {
  if (suspected.empty()) return;
  Later([suspected = std::move(suspected)] {
    for (auto& [id, observer] : suspected) observer->OnWorkerSuspect(id);
  });
}

// A full pool must not keep the news: this thread brings it then.
void WorkerLinkImpl::Later(const std::function<void()>& job) {
  if (!placement_pool_->Submit(job).ok()) job();
}

}  // namespace coterie::gateway
