// What a worker says to this gateway, message by message: WorkerLinkImpl.
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/clock.h"
#include "common/log/named.h"
#include "common/lost_worker.h"
#include "gateway/upstream/convert_worker.h"
#include "gateway/upstream/hello_check.h"
#include "gateway/upstream/link_errors.h"
#include "gateway/upstream/worker_link_impl.h"
#include "spdlog/spdlog.h"

namespace coterie::gateway {

void WorkerLinkImpl::OnMessage(WorkerStream* stream, v1::WorkerMessage& message) {
  switch (message.message_case()) {
    case v1::WorkerMessage::kHello:
      return OnHello(stream, message.hello());
    case v1::WorkerMessage::kChallenge:
      return OnChallenge(stream, message.challenge());
    case v1::WorkerMessage::kStep:
      return OnStep(stream, *message.mutable_step());
    case v1::WorkerMessage::kHeartbeat:
      return OnHeartbeat(stream, message.heartbeat());
    case v1::WorkerMessage::MESSAGE_NOT_SET:
      return;  // something a newer worker says
  }
}

bool WorkerLinkImpl::Hear(WorkerStream* stream) {
  if (stream != stream_.get() || stopped_) return false;
  const MonotonicTime now = MonotonicNow();
  const bool beats_lost = heartbeats_.Hear(now);
  if (attached_ && beats_lost) NoteFailure(now);
  return true;
}

void WorkerLinkImpl::OnChallenge(WorkerStream* stream, const v1::Challenge& challenge) {
  Lost lost;
  {
    MutexLock lock(&mutex_);
    if (!Hear(stream) || attached_) return;
    std::string refusal;
    if (options_.secret == nullptr) {
      refusal = absl::StrCat("worker ", address_, " asks for a shared secret; name it by --worker-secret");
    } else {
      const HandshakeFacts facts{options_.gateway_id, nonce_, challenge.nonce()};
      if (challenge.nonce().size() == SharedSecret::kNonceBytes &&
          options_.secret->Believes(SharedSecret::Side::kWorker, facts, challenge.proof())) {
        proven_ = true;
        v1::GatewayMessage message;
        message.mutable_challenge_answer()->set_proof(
            options_.secret->Prove(SharedSecret::Side::kGateway, facts));
        SendOrBreak(std::move(message));
      } else {
        refusal = absl::StrCat("worker ", address_,
                               " does not know our shared secret: its --gateway-secret and our "
                               "--worker-secret must have a line in common");
      }
    }
    if (!refusal.empty()) lost = RefuseWorker(absl::UnavailableError(refusal), refusal);
    Publish();
  }
  TellLater(std::move(lost));
}

void WorkerLinkImpl::OnHello(WorkerStream* stream, const v1::WorkerHello& proto) {
  Lost lost;
  Observed reattached;
  {
    MutexLock lock(&mutex_);
    if (!Hear(stream) || attached_) return;
    StatusOr<WorkerIdentity> hello = HelloFromProto(proto);
    Status fits = hello.ok() ? CheckHello(*hello, options_, address_) : hello.status();
    if (!proven_) {
      fits = absl::UnauthenticatedError(absl::StrCat(
          "worker ", address_,
          " asks for no shared secret, and this gateway has one; start the worker with the same in "
          "--gateway-secret"));
    }
    if (fits.ok()) {
      lost = Attach(*std::move(hello), proto, &reattached);
    } else {
      lost = RefuseWorker(absl::UnavailableError(fits.message()), std::string(fits.message()));
    }
    Publish();
  }
  TellLater(std::move(lost));
  for (auto& [id, observer] : reattached) observer->OnReattached(id);
}

WorkerLinkImpl::Lost WorkerLinkImpl::Attach(WorkerIdentity hello, const v1::WorkerHello& proto,
                                            Observed* reattached) {
  Lost lost;
  const bool known = identity_.incarnation == hello.incarnation;
  if (!known && !identity_.incarnation.empty()) {
    lost = TakeSequences(
        {absl::UnavailableError(absl::StrCat("worker ", address_, " was replaced by a new process"))});
  }
  identity_ = std::move(hello);
  state_.Identify(identity_);
  state_.Reset();
  if (proto.has_state()) ApplyState(proto.state());
  attached_ = true;
  health_ = WorkerHealth::kReady;
  message_ = "ready";
  backoff_.Reset();
  timers_->Cancel(grace_);
  if (known) {
    v1::GatewayMessage message;
    lost.loss.why = absl::UnavailableError(absl::StrCat("the connection to worker ", address_, " broke"));
    *reattached = sequences_.Reattach(message.mutable_reattach(), &lost.observers);
    SendOrBreak(std::move(message));
  }
  spdlog::info("worker {} ({}) {}", Named("address", address_), Named("worker", identity_.worker_id),
               Named("state", known ? "re-attached" : "attached"));
  return lost;
}

void WorkerLinkImpl::OnStep(WorkerStream* stream, v1::Step& step) {
  std::vector<std::pair<std::shared_ptr<SequenceObserver>, SequenceOutput>> outputs;
  {
    MutexLock lock(&mutex_);
    if (!Hear(stream) || !attached_) return;
    if (step.has_state()) ApplyState(step.state());
    // A worker that lost its device does not drain, whatever it was about to do.
    const bool drains = state_.levels().draining && !state_.levels().device_lost;
    bool failed = false;
    for (v1::SequenceOutput& proto : *step.mutable_outputs()) {
      SequenceOutput output = OutputFromProto(std::move(proto));
      output.worker_drains = drains;
      std::shared_ptr<SequenceObserver> observer = sequences_.Follow(output);
      if (observer == nullptr) continue;  // given up before
      failed |= !drains && IsWorkersFault(output.error) && LostWorker(output.error).empty();
      outputs.emplace_back(std::move(observer), std::move(output));
    }
    if (failed) NoteFailureOnce(heartbeats_.last_heard());
    Publish();
  }
  for (auto& [observer, output] : outputs) observer->OnOutput(std::move(output));
}

void WorkerLinkImpl::OnHeartbeat(WorkerStream* stream, const v1::Heartbeat& heartbeat) {
  MutexLock lock(&mutex_);
  if (!Hear(stream)) return;
  if (heartbeat.has_state()) ApplyState(heartbeat.state());
  Publish();
}

void WorkerLinkImpl::ApplyState(const v1::WorkerState& proto) {
  StatusOr<WorkerStateUpdate> update = StateFromProto(proto);
  if (update.ok()) return state_.Apply(*std::move(update));
  // A worker says its state with every step, and one that says it wrong says so each time.
  if (const auto n_left_out = malformed_states_.Note(MonotonicNow())) {
    spdlog::warn("worker {}: state ignored: {} ({} more since the last such line; at most one a minute)",
                 Named("address", address_), Named("why", std::string(update.status().message())),
                 Named("left_out", *n_left_out));
  }
}

}  // namespace coterie::gateway
