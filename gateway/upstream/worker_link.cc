#include "gateway/upstream/worker_link.h"

#include <algorithm>
#include <functional>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "gateway/convert_worker.h"
#include "gateway/upstream/worker_stream.h"
#include "spdlog/spdlog.h"

namespace coterie::gateway {
namespace {

class WorkerLinkImpl final : public WorkerLink,
                             public WorkerStream::Owner,
                             public std::enable_shared_from_this<WorkerLinkImpl> {
 public:
  WorkerLinkImpl(const WorkerLinkOptions& options, std::string address, TimerQueue* timers,
                 StreamReaper* reaper)
      : options_(options),
        address_(std::move(address)),
        timers_(timers),
        reaper_(reaper),
        backoff_(options.min_backoff) {}

  void Connect() {
    MutexLock lock(&mutex_);
    if (stopped_ || stream_ != nullptr) return;
    v1::GatewayMessage message;
    *message.mutable_hello() = HelloToProto(options_);
    last_heard_ = absl::Now();  // the attempt itself may take as long as a silence
    attached_ = false;
    stream_ = WorkerStream::Start(shared_from_this(), address_, message, options_.max_outgoing, reaper_);
    ScheduleTick();
  }

  Status Submit(uint64_t sequence_id, const SequenceRequest& request,
                std::shared_ptr<SequenceObserver> observer) override {
    v1::GatewayMessage message;
    *message.mutable_submit() = SubmitToProto(sequence_id, request, absl::Now());
    MutexLock lock(&mutex_);
    if (health_ != WorkerHealth::kReady || !stream_->Send(std::move(message))) {
      return absl::UnavailableError(
          absl::StrCat("worker ", address_, " cannot take a request now: ", message_));
    }
    const uint32_t position = static_cast<uint32_t>(request.resume_ids.size());
    sequences_[sequence_id] = {std::move(observer), position, position + request.credit,
                               request.prompt_logprobs_from.has_value()};
    for (const AdapterUse& adapter : request.adapters) (void)state_.Expect(adapter.digest, absl::Now());
    return absl::OkStatus();
  }

  bool Prefetch(const Digest& adapter) override {
    MutexLock lock(&mutex_);
    if (health_ != WorkerHealth::kReady || !state_.Expect(adapter, absl::Now())) return false;
    v1::GatewayMessage message;
    message.mutable_prefetch()->set_digest(adapter.ToBytes());
    return stream_->Send(std::move(message));  // a full queue costs the hint, not the stream
  }

  void Cancel(uint64_t sequence_id) override {
    MutexLock lock(&mutex_);
    if (sequences_.erase(sequence_id) == 0 || !attached_) return;
    v1::GatewayMessage message;
    message.mutable_cancel()->set_sequence_id(sequence_id);
    SendOrBreak(std::move(message));
  }

  void Grant(uint64_t sequence_id, uint32_t tokens) override {
    MutexLock lock(&mutex_);
    const auto it = sequences_.find(sequence_id);
    if (it == sequences_.end()) return;
    it->second.credit_until += tokens;
    if (!attached_) return;  // the Reattach restates it
    v1::GatewayMessage message;
    message.mutable_credit()->set_sequence_id(sequence_id);
    message.mutable_credit()->set_tokens(tokens);
    SendOrBreak(std::move(message));
  }

  WorkerView View(const PlacementRequest& request) const override {
    MutexLock lock(&mutex_);
    WorkerView view = state_.View(identity_, request, sequences_.size(), absl::Now());
    if (view.id.empty()) view.id = address_;
    // Half the silence already is a bad sign: new work goes elsewhere while the verdict is out.
    view.alive =
        health_ == WorkerHealth::kReady &&
        absl::Now() - last_heard_ < std::max(options_.silence_timeout / 2, 2 * options_.heartbeat_interval);
    return view;
  }

  WorkerReport Report() const override {
    MutexLock lock(&mutex_);
    WorkerReport report{address_, health_, message_, identity_, state_.levels()};
    report.state.bytes_between_workers = bytes_total_;
    if (health_ == WorkerHealth::kReady && state_.levels().draining) report.health = WorkerHealth::kDraining;
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
      lost = LoseWorker(why);
    }
    lost.Tell();
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
      const bool refused = status.error_code() == grpc::StatusCode::FAILED_PRECONDITION ||
                           status.error_code() == grpc::StatusCode::UNIMPLEMENTED ||
                           status.error_code() == grpc::StatusCode::INVALID_ARGUMENT;
      if (refused) {
        lost = LoseWorker(absl::UnavailableError(words));
        health_ = WorkerHealth::kRefused;
        message_ = status.error_message();
        ScheduleReconnect(options_.refused_retry);
      } else if (was_attached) {
        BeginGrace(words);
        suspected = Observers();
        ScheduleReconnect(absl::ZeroDuration());
      } else {
        if (health_ != WorkerHealth::kRefused) message_ = words;
        ScheduleReconnect(health_ == WorkerHealth::kRefused ? options_.refused_retry : NextBackoff());
      }
    }
    for (auto& [id, observer] : suspected) observer->OnWorkerSuspect(id);
    lost.Tell();
  }

 private:
  struct Entry {
    std::shared_ptr<SequenceObserver> observer;
    uint32_t next_position = 0;
    uint32_t credit_until = 0;  // position up to which the worker may send
    // Log-probabilities of the prompt carry no position: nobody could say which were lost with a connection.
    bool starts_over = false;
  };

  // Those to be told of something, once the lock is released.
  using Observed = std::vector<std::pair<uint64_t, std::shared_ptr<SequenceObserver>>>;
  struct Lost {
    Observed observers;
    Status why;
    void Tell() {
      for (auto& [id, observer] : observers) observer->OnWorkerLost(id, why);
    }
  };

  // True for a message of the stream in use.
  bool Hear(WorkerStream* stream) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (stream != stream_.get() || stopped_) return false;
    last_heard_ = absl::Now();
    return true;
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
      const Status fits = hello.ok() ? CheckFits(*hello) : hello.status();
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
              absl::UnavailableError(absl::StrCat("worker ", address_, " was replaced by a new process")));
        }
        if (!known) bytes_seen_ = 0;
        identity_ = *std::move(hello);
        state_.Reset();
        if (proto.has_state()) ApplyState(proto.state());
        attached_ = true;
        health_ = WorkerHealth::kReady;
        message_ = "ready";
        backoff_ = options_.min_backoff;
        timers_->Cancel(grace_);
        if (known) reattached = Reattach(&lost);
        spdlog::info("worker {} ({}) {}", address_, identity_.worker_id, known ? "re-attached" : "attached");
      }
    }
    lost.Tell();
    for (auto& [id, observer] : reattached) observer->OnReattached(id);
  }

  Observed Reattach(Lost* lost) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    Observed reattached;
    v1::GatewayMessage message;
    v1::Reattach* reattach = message.mutable_reattach();
    lost->why = absl::UnavailableError(absl::StrCat("the connection to worker ", address_, " broke"));
    for (auto it = sequences_.begin(); it != sequences_.end();) {
      const auto here = it++;
      auto& [id, entry] = *here;
      if (entry.starts_over) {
        lost->observers.emplace_back(id, std::move(entry.observer));
        sequences_.erase(here);
        continue;
      }
      v1::Reattach::Position* position = reattach->add_sequences();
      position->set_sequence_id(id);
      position->set_next_position(entry.next_position);
      position->set_credit(entry.credit_until - std::min(entry.credit_until, entry.next_position));
      reattached.emplace_back(id, entry.observer);
    }
    SendOrBreak(std::move(message));
    return reattached;
  }

  Status CheckFits(const WorkerIdentity& hello) const {
    if (hello.protocol_version != kProtocolVersion) {
      return absl::FailedPreconditionError(absl::StrCat("worker ", address_, " speaks protocol ",
                                                        hello.protocol_version, ", this gateway speaks ",
                                                        kProtocolVersion));
    }
    if (hello.base != options_.base) {
      return absl::FailedPreconditionError(absl::StrCat("worker ", address_, " serves base ",
                                                        hello.base.Short(), ", this gateway serves base ",
                                                        options_.base.Short()));
    }
    if (hello.tokenizer != options_.tokenizer) {
      return absl::FailedPreconditionError(absl::StrCat("worker ", address_, " has tokenizer ",
                                                        hello.tokenizer.Short(), ", this gateway has ",
                                                        options_.tokenizer.Short()));
    }
    if (hello.incarnation.empty()) {
      return absl::FailedPreconditionError(absl::StrCat("worker ", address_, " names no incarnation"));
    }
    return absl::OkStatus();
  }

  void OnStep(WorkerStream* stream, v1::Step& step) {
    std::vector<std::pair<std::shared_ptr<SequenceObserver>, SequenceOutput>> outputs;
    {
      MutexLock lock(&mutex_);
      if (!Hear(stream) || !attached_) return;
      if (step.has_state()) ApplyState(step.state());
      for (v1::SequenceOutput& proto : *step.mutable_outputs()) {
        const auto it = sequences_.find(proto.sequence_id());
        if (it == sequences_.end()) continue;  // given up before
        SequenceOutput output = OutputFromProto(std::move(proto));
        const uint32_t end = output.position + static_cast<uint32_t>(output.token_ids.size());
        it->second.next_position = std::max(it->second.next_position, end);
        outputs.emplace_back(it->second.observer, std::move(output));
        if (outputs.back().second.finish != FinishReason::kNone) sequences_.erase(it);
      }
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
      const absl::Duration silence = absl::Now() - last_heard_;
      if (silence <= options_.silence_timeout / 2) {
        silence_told_ = false;
      } else if (attached_ && !std::exchange(silence_told_, true)) {
        suspected = Observers();
      }
      if (silence > options_.silence_timeout) {
        if (attached_) {
          lost = LoseWorker(absl::UnavailableError(
              absl::StrCat("worker ", address_, " said nothing for ", absl::FormatDuration(silence))));
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
    }
    for (auto& [id, observer] : suspected) observer->OnWorkerSuspect(id);
    lost.Tell();
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
      lost = TakeSequences(absl::UnavailableError(message_));
      MarkLost(lost.why);
    }
    lost.Tell();
  }

  // The stream's end will not be heard of any more.
  void DropStream() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (stream_ != nullptr) stream_->Stop();
    stream_.reset();
    attached_ = false;
    timers_->Cancel(tick_);
  }

  Observed Observers() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    Observed observers;
    for (const auto& [id, entry] : sequences_) observers.emplace_back(id, entry.observer);
    return observers;
  }

  Lost TakeSequences(Status why) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    Lost lost;
    lost.why = std::move(why);
    for (auto& [id, entry] : sequences_) lost.observers.emplace_back(id, std::move(entry.observer));
    sequences_.clear();
    return lost;
  }

  void MarkLost(const Status& why) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    health_ = WorkerHealth::kLost;
    message_ = std::string(why.message());
    state_.Reset();
    if (!stopped_) spdlog::warn("worker {} lost: {}", address_, message_);
  }

  Lost LoseWorker(Status why) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    DropStream();
    timers_->Cancel(grace_);
    MarkLost(why);
    return TakeSequences(std::move(why));
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
  absl::Time last_heard_ ABSL_GUARDED_BY(mutex_) = absl::InfinitePast();
  absl::Duration backoff_ ABSL_GUARDED_BY(mutex_);
  bool silence_told_ ABSL_GUARDED_BY(mutex_) = false;  // of the present silence
  uint64_t beats_ ABSL_GUARDED_BY(mutex_) = 0;
  TimerQueue::Id tick_ ABSL_GUARDED_BY(mutex_) = 0;
  TimerQueue::Id grace_ ABSL_GUARDED_BY(mutex_) = 0;
  TimerQueue::Id reconnect_ ABSL_GUARDED_BY(mutex_) = 0;
  absl::flat_hash_map<uint64_t, Entry> sequences_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace

std::shared_ptr<WorkerLink> WorkerLink::Start(const WorkerLinkOptions& options, std::string address,
                                              TimerQueue* timers, StreamReaper* reaper) {
  auto link = std::make_shared<WorkerLinkImpl>(options, std::move(address), timers, reaper);
  link->Connect();
  return link;
}

}  // namespace coterie::gateway
