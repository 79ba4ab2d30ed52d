#include "gateway/upstream/worker_link.h"

#include <algorithm>
#include <functional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/clock.h"
#include "gateway/upstream/convert_worker.h"
#include "gateway/upstream/hello_check.h"
#include "gateway/upstream/link_errors.h"
#include "gateway/upstream/link_sequences.h"
#include "gateway/upstream/worker_state.h"
#include "gateway/upstream/worker_stream.h"
#include "spdlog/spdlog.h"

namespace coterie::gateway {
namespace {

class WorkerLinkImpl final : public WorkerLink,
                             public WorkerStream::Owner,
                             public std::enable_shared_from_this<WorkerLinkImpl> {
 public:
  WorkerLinkImpl(const WorkerLinkOptions& options, std::string address, TimerQueue* timers,
                 StreamReaper* reaper, std::shared_ptr<WorkPool> placement_pool,
                 std::shared_ptr<WorkerBoard> board)
      : options_(options),
        address_(std::move(address)),
        timers_(timers),
        reaper_(reaper),
        placement_pool_(std::move(placement_pool)),
        state_(std::move(board), address_),
        outliers_(options.outliers),
        backoff_(options.min_backoff) {}

  void Connect() {
    MutexLock lock(&mutex_);
    if (stopped_ || stream_ != nullptr) return;
    state_.SetLink(weak_from_this());  // which a constructor cannot know
    v1::GatewayMessage message;
    *message.mutable_hello() = HelloToProto(options_);
    last_tick_ = last_heard_ = MonotonicNow();  // the attempt itself may take as long as a silence
    attached_ = false;
    stream_ = WorkerStream::Start(shared_from_this(), address_, message, options_.max_outgoing, reaper_);
    ScheduleTick();
  }

  Status Submit(uint64_t sequence_id, const SequenceRequest& request,
                std::shared_ptr<SequenceObserver> observer) override {
    v1::GatewayMessage message;
    *message.mutable_submit() = SubmitToProto(sequence_id, request, MonotonicNow());
    MutexLock lock(&mutex_);
    if (health_ != WorkerHealth::kReady || !stream_->Send(std::move(message))) {
      return absl::UnavailableError(
          absl::StrCat("worker ", address_, " cannot take a request now: ", message_));
    }
    sequences_.Add(sequence_id, request, std::move(observer));
    for (const AdapterUse& adapter : request.adapters) (void)state_.Expect(adapter.digest, MonotonicNow());
    Publish();
    return absl::OkStatus();
  }

  bool Prefetch(const Digest& adapter) override {
    MutexLock lock(&mutex_);
    if (health_ != WorkerHealth::kReady || !state_.Expect(adapter, MonotonicNow())) return false;
    v1::GatewayMessage message;
    message.mutable_prefetch()->set_digest(adapter.ToBytes());
    return stream_->Send(std::move(message));  // a full queue costs the hint, not the stream
  }

  void Cancel(uint64_t sequence_id) override {
    MutexLock lock(&mutex_);
    if (!sequences_.Remove(sequence_id)) return;
    Publish();
    if (!attached_) return;
    v1::GatewayMessage message;
    message.mutable_cancel()->set_sequence_id(sequence_id);
    SendOrBreak(std::move(message));
  }

  void Grant(uint64_t sequence_id, uint32_t tokens) override {
    MutexLock lock(&mutex_);
    const size_t n_active = sequences_.n_active();
    if (!sequences_.Grant(sequence_id, tokens)) return;
    if (sequences_.n_active() != n_active) Publish();
    if (!attached_) return;  // the Reattach restates it
    v1::GatewayMessage message;
    message.mutable_credit()->set_sequence_id(sequence_id);
    message.mutable_credit()->set_tokens(tokens);
    SendOrBreak(std::move(message));
  }

  WorkerReport Report() const override {
    MutexLock lock(&mutex_);
    WorkerReport report{address_, health_, message_, identity_, state_.levels()};
    report.state.bytes_between_workers = bytes_total_;
    if (health_ == WorkerHealth::kReady && state_.levels().draining) report.health = WorkerHealth::kDraining;
    report.ejections = outliers_.ejections();
    report.ejected_for = outliers_.ejected_for(MonotonicNow());
    if (report.ejected_for > absl::ZeroDuration())
      report.message += "; " + outliers_.InWords(report.ejected_for);
    return report;
  }

  bool Holds(const Digest& adapter) const override {
    MutexLock lock(&mutex_);
    return health_ == WorkerHealth::kReady && state_.Holds(adapter);
  }

  size_t sequences() const override {
    MutexLock lock(&mutex_);
    return sequences_.size();
  }

  const std::string& address() const override { return address_; }

  void Stop(const Status& why) override {
    Lost lost;
    {
      MutexLock lock(&mutex_);
      stopped_ = true;
      timers_->Cancel(tick_);
      timers_->Cancel(grace_);
      timers_->Cancel(reconnect_);
      lost = LoseWorker(why, /*planned=*/true);
      state_.Leave();
    }
    TellLater(std::move(lost));
  }

  void OnMessage(WorkerStream* stream, v1::WorkerMessage& message) override {
    switch (message.message_case()) {
      case v1::WorkerMessage::kHello:
        OnHello(stream, message.hello());
        return;
      case v1::WorkerMessage::kStep:
        OnStep(stream, *message.mutable_step());
        return;
      case v1::WorkerMessage::kHeartbeat: {
        MutexLock lock(&mutex_);
        if (!Hear(stream)) return;
        if (message.heartbeat().has_state()) ApplyState(message.heartbeat().state());
        Publish();
        return;
      }
      case v1::WorkerMessage::MESSAGE_NOT_SET:
        return;  // something a newer worker says
    }
  }

  void OnClosed(WorkerStream* stream, const grpc::Status& status) override {
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
        lost = LoseWorker(absl::UnavailableError(words));
        health_ = WorkerHealth::kRefused;
        message_ = status.error_message();
        ScheduleReconnect(options_.refused_retry);
      } else if (was_attached && state_.levels().draining) {
        lost = LoseWorker(absl::UnavailableError(absl::StrCat("worker ", address_, " drained and left")),
                          /*planned=*/true);
        ScheduleReconnect(NextBackoff());
      } else if (was_attached) {
        NoteFailure(MonotonicNow());
        BeginGrace(words);
        suspected = sequences_.All();
        ScheduleReconnect(absl::ZeroDuration());
      } else if (health_ == WorkerHealth::kSuspect && PortIsClosed(status)) {
        lost = LoseWorker(absl::UnavailableError(
            absl::StrCat("worker ", address_, " is gone: its port refuses connections")));
        ScheduleReconnect(NextBackoff());
      } else {
        if (health_ != WorkerHealth::kRefused) message_ = words;
        ScheduleReconnect(health_ == WorkerHealth::kRefused ? options_.refused_retry : NextBackoff());
      }
      Publish();
    }
    SuspectLater(std::move(suspected));
    TellLater(std::move(lost));
  }

 private:
  struct Lost {
    Observed observers;
    WorkerLoss loss;
  };

  void TellLater(Lost lost) {
    if (lost.observers.empty()) return;
    Later([lost = std::move(lost)] {
      for (auto& [id, observer] : lost.observers) observer->OnWorkerLost(id, lost.loss);
    });
  }

  void SuspectLater(Observed suspected) {
    if (suspected.empty()) return;
    Later([suspected = std::move(suspected)] {
      for (auto& [id, observer] : suspected) observer->OnWorkerSuspect(id);
    });
  }

  // A full pool must not keep the news: this thread brings it then.
  void Later(const std::function<void()>& job) {
    if (!placement_pool_->Submit(job).ok()) job();
  }

  // True for a message of the stream in use.
  bool Hear(WorkerStream* stream) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (stream != stream_.get() || stopped_) return false;
    const MonotonicTime now = MonotonicNow();
    // A worker that was silent for long and lives did not keep its beat, unless it was we who did not listen.
    const absl::Duration longest = std::max(options_.silence_timeout / 3, 2 * options_.heartbeat_interval);
    if (attached_ && now - last_heard_ > longest && !WeStalled(now)) NoteFailure(now);
    last_heard_ = now;
    return true;
  }

  // Writes on the board what has changed but for the worker's own state. Half of the silence that loses a
  // worker is a bad sign already: new work goes elsewhere while the verdict is out.
  void Publish() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    const absl::Duration patience = std::max(options_.silence_timeout / 2, 2 * options_.heartbeat_interval);
    const bool ready = health_ == WorkerHealth::kReady;
    state_.Stand({.alive_until = ready ? last_heard_ + patience : MonotonicTime::InfinitePast(),
                  .ejected_until = outliers_.ejected_until(),
                  .refused = health_ == WorkerHealth::kRefused,
                  .assigned = static_cast<uint32_t>(sequences_.n_active())});
  }

  // Since the worker was last heard.
  bool WeStalled(MonotonicTime now) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return late_tick_ >= last_heard_ || now - last_tick_ > 2 * options_.heartbeat_interval;
  }

  void NoteFailure(MonotonicTime now) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (!outliers_.Fail(now)) return;
    spdlog::warn("worker {} failed {} times of late: new answers go elsewhere for {}", address_,
                 outliers_.failures(), absl::FormatDuration(outliers_.ejected_for(now)));
  }

  void ApplyState(const v1::WorkerState& proto) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    StatusOr<WorkerStateUpdate> update = StateFromProto(proto);
    if (update.ok()) {
      bytes_total_ += update->bytes_between_workers - std::min(update->bytes_between_workers, bytes_seen_);
      bytes_seen_ = update->bytes_between_workers;
      update->bytes_between_workers = bytes_total_;
      state_.Apply(*update);
    } else {
      spdlog::warn("worker {}: state ignored: {}", address_, std::string(update.status().message()));
    }
  }

  void OnHello(WorkerStream* stream, const v1::WorkerHello& proto) {
    Lost lost;
    Observed reattached;
    {
      MutexLock lock(&mutex_);
      if (!Hear(stream) || attached_) return;
      StatusOr<WorkerIdentity> hello = HelloFromProto(proto);
      const Status fits = hello.ok() ? CheckHello(*hello, options_, address_) : hello.status();
      if (!fits.ok()) {
        lost = LoseWorker(absl::UnavailableError(fits.message()));
        health_ = WorkerHealth::kRefused;
        message_ = std::string(fits.message());
        spdlog::warn("worker {} refused: {}", address_, message_);
        ScheduleReconnect(options_.refused_retry);
      } else {
        const bool known = identity_.incarnation == hello->incarnation;
        if (!known && !identity_.incarnation.empty()) {
          lost = TakeSequences(
              {absl::UnavailableError(absl::StrCat("worker ", address_, " was replaced by a new process"))});
        }
        if (!known) bytes_seen_ = 0;
        identity_ = *std::move(hello);
        state_.Identify(identity_);
        state_.Reset();
        if (proto.has_state()) ApplyState(proto.state());
        attached_ = true;
        health_ = WorkerHealth::kReady;
        message_ = "ready";
        backoff_ = options_.min_backoff;
        timers_->Cancel(grace_);
        if (known) {
          v1::GatewayMessage message;
          lost.loss.why =
              absl::UnavailableError(absl::StrCat("the connection to worker ", address_, " broke"));
          reattached = sequences_.Reattach(message.mutable_reattach(), &lost.observers);
          SendOrBreak(std::move(message));
        }
        spdlog::info("worker {} ({}) {}", address_, identity_.worker_id, known ? "re-attached" : "attached");
      }
      Publish();
    }
    TellLater(std::move(lost));
    for (auto& [id, observer] : reattached) observer->OnReattached(id);
  }

  void OnStep(WorkerStream* stream, v1::Step& step) {
    std::vector<std::pair<std::shared_ptr<SequenceObserver>, SequenceOutput>> outputs;
    {
      MutexLock lock(&mutex_);
      if (!Hear(stream) || !attached_) return;
      if (step.has_state()) ApplyState(step.state());
      const bool drains = state_.levels().draining;
      bool failed = false;
      for (v1::SequenceOutput& proto : *step.mutable_outputs()) {
        SequenceOutput output = OutputFromProto(std::move(proto));
        output.worker_drains = drains;
        std::shared_ptr<SequenceObserver> observer = sequences_.Follow(output);
        if (observer == nullptr) continue;  // given up before
        failed |= !drains && IsWorkersFault(output.error);
        outputs.emplace_back(std::move(observer), std::move(output));
      }
      // Its sequences fail together and in several messages: one failure.
      if (failed && last_heard_ - outliers_.last_failure() > absl::Seconds(1)) NoteFailure(last_heard_);
      Publish();
    }
    for (auto& [observer, output] : outputs) observer->OnOutput(std::move(output));
  }

  void ScheduleTick() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    tick_ = timers_->After(options_.heartbeat_interval, Weakly(&WorkerLinkImpl::Tick));
  }

  void Tick() {
    Lost lost;
    Observed suspected;
    {
      MutexLock lock(&mutex_);
      if (stopped_ || stream_ == nullptr) return;
      const MonotonicTime now = MonotonicNow();
      if (now - last_tick_ > 2 * options_.heartbeat_interval) late_tick_ = now;
      last_tick_ = now;
      const absl::Duration silence = now - last_heard_;
      if (silence <= options_.silence_timeout / 2) {
        silence_told_ = false;
      } else if (attached_ && !std::exchange(silence_told_, true)) {
        suspected = sequences_.All();
      }
      if (silence > options_.silence_timeout) {
        if (attached_) {
          const bool planned = state_.levels().draining;
          if (!planned) NoteFailure(now);
          lost = LoseWorker(absl::UnavailableError(absl::StrCat("worker ", address_, " said nothing for ",
                                                                absl::FormatDuration(silence))),
                            planned);
        } else {
          DropStream();
          if (health_ != WorkerHealth::kRefused) {
            message_ = absl::StrCat("worker ", address_, " did not answer within ",
                                    absl::FormatDuration(options_.silence_timeout));
          }
        }
        ScheduleReconnect(NextBackoff());
      } else {
        if (attached_) {
          v1::GatewayMessage beat;
          beat.mutable_heartbeat()->set_counter(++beats_);
          SendOrBreak(std::move(beat));
        }
        ScheduleTick();
      }
      Publish();
    }
    SuspectLater(std::move(suspected));
    TellLater(std::move(lost));
  }

  // A full queue means that the connection carries nothing: start another.
  void SendOrBreak(v1::GatewayMessage message) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (!stream_->Send(std::move(message))) stream_->Stop();
  }

  void BeginGrace(const std::string& words) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    health_ = WorkerHealth::kSuspect;
    message_ = words;
    absl::Duration grace = options_.reattach_grace;
    if (identity_.reattach_grace_ms > 0) {
      grace = std::min(grace, absl::Milliseconds(identity_.reattach_grace_ms));
    }
    spdlog::warn("{}; waiting {} for it to come back", words, absl::FormatDuration(grace));
    timers_->Cancel(grace_);
    grace_ = timers_->After(grace, Weakly(&WorkerLinkImpl::OnGraceOver));
  }

  void OnGraceOver() {
    Lost lost;
    {
      MutexLock lock(&mutex_);
      if (stopped_ || health_ != WorkerHealth::kSuspect) return;
      lost = TakeSequences({absl::UnavailableError(message_)});
      MarkLost(lost.loss);
      Publish();
    }
    TellLater(std::move(lost));
  }

  // The stream's end will not be heard of any more.
  void DropStream() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (stream_ != nullptr) stream_->Stop();
    stream_.reset();
    attached_ = false;
    timers_->Cancel(tick_);
  }

  Lost TakeSequences(WorkerLoss loss) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return {sequences_.TakeAll(), std::move(loss)};
  }

  void MarkLost(const WorkerLoss& loss) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    health_ = WorkerHealth::kLost;
    message_ = std::string(loss.why.message());
    state_.Reset();
    if (stopped_) return;
    if (loss.planned) {
      spdlog::info("worker {} left: {}", address_, message_);
    } else {
      spdlog::warn("worker {} lost: {}", address_, message_);
    }
  }

  Lost LoseWorker(Status why, bool planned = false) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    DropStream();
    timers_->Cancel(grace_);
    Lost lost = TakeSequences({std::move(why), planned});
    MarkLost(lost.loss);
    return lost;
  }

  absl::Duration NextBackoff() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    const absl::Duration delay = backoff_;
    backoff_ = std::min(backoff_ * 2, options_.max_backoff);
    return delay;
  }

  void ScheduleReconnect(absl::Duration delay) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (stopped_) return;
    timers_->Cancel(reconnect_);
    reconnect_ = timers_->After(delay, Weakly(&WorkerLinkImpl::Connect));
  }

  // Timers never keep the link alive.
  std::function<void()> Weakly(void (WorkerLinkImpl::*method)()) {
    return [weak = weak_from_this(), method] {
      if (const auto self = weak.lock()) ((*self).*method)();
    };
  }

  const WorkerLinkOptions options_;
  const std::string address_;
  TimerQueue* const timers_;
  StreamReaper* const reaper_;
  const std::shared_ptr<WorkPool> placement_pool_;

  mutable Mutex mutex_;
  bool stopped_ ABSL_GUARDED_BY(mutex_) = false;
  bool attached_ ABSL_GUARDED_BY(mutex_) = false;  // Hello came on stream_
  std::shared_ptr<WorkerStream> stream_ ABSL_GUARDED_BY(mutex_);
  WorkerHealth health_ ABSL_GUARDED_BY(mutex_) = WorkerHealth::kConnecting;
  std::string message_ ABSL_GUARDED_BY(mutex_) = "connecting";
  WorkerIdentity identity_ ABSL_GUARDED_BY(mutex_);
  WorkerStateFold state_ ABSL_GUARDED_BY(mutex_);
  uint64_t bytes_seen_ ABSL_GUARDED_BY(mutex_) = 0;   // as this incarnation last said
  uint64_t bytes_total_ ABSL_GUARDED_BY(mutex_) = 0;  // over all incarnations: never falls
  MonotonicTime last_heard_ ABSL_GUARDED_BY(mutex_) = MonotonicTime::InfinitePast();
  MonotonicTime last_tick_ ABSL_GUARDED_BY(mutex_) = MonotonicTime::InfinitePast();
  MonotonicTime late_tick_ ABSL_GUARDED_BY(mutex_) =
      MonotonicTime::InfinitePast();  // the last one that came late
  OutlierWatch outliers_ ABSL_GUARDED_BY(mutex_);
  absl::Duration backoff_ ABSL_GUARDED_BY(mutex_);
  bool silence_told_ ABSL_GUARDED_BY(mutex_) = false;  // of the present silence
  uint64_t beats_ ABSL_GUARDED_BY(mutex_) = 0;
  TimerQueue::Id tick_ ABSL_GUARDED_BY(mutex_) = 0;
  TimerQueue::Id grace_ ABSL_GUARDED_BY(mutex_) = 0;
  TimerQueue::Id reconnect_ ABSL_GUARDED_BY(mutex_) = 0;
  LinkSequences sequences_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace

std::shared_ptr<WorkerLink> WorkerLink::Start(const WorkerLinkOptions& options, std::string address,
                                              TimerQueue* timers, StreamReaper* reaper,
                                              std::shared_ptr<WorkPool> placement_pool,
                                              std::shared_ptr<WorkerBoard> board) {
  auto link = std::make_shared<WorkerLinkImpl>(options, std::move(address), timers, reaper,
                                               std::move(placement_pool), std::move(board));
  link->Connect();
  return link;
}

}  // namespace coterie::gateway
