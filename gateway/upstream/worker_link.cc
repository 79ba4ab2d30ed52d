// What others ask of one worker. What it says: link_messages.cc. Its connection: link_connection.cc.
#include "gateway/upstream/worker_link.h"

#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "common/clock.h"
#include "gateway/upstream/convert_worker.h"
#include "gateway/upstream/worker_link_impl.h"

namespace coterie::gateway {
namespace {

// Between two lines of the log about one worker's states that cannot be read.
constexpr absl::Duration kMalformedStateInterval = absl::Minutes(1);

// Of gRPC's name for a peer: "ipv4:10.0.0.3:7601", "ipv6:%5Bfd00::3%5D:7601". Empty for any other.
std::string NumericAddress(const std::string& peer) {
  if (absl::StartsWith(peer, "ipv4:")) return peer.substr(5);
  if (!absl::StartsWith(peer, "ipv6:")) return "";
  return absl::StrReplaceAll(peer.substr(5), {{"%5B", "["}, {"%5D", "]"}, {"%5b", "["}, {"%5d", "]"}});
}

}  // namespace

std::shared_ptr<WorkerLink> WorkerLink::Start(const WorkerLinkOptions& options, std::string address,
                                              TimerQueue* timers, StreamThreads* streams,
                                              std::shared_ptr<WorkPool> placement_pool,
                                              std::shared_ptr<WorkerBoard> board) {
  auto link = std::make_shared<WorkerLinkImpl>(options, std::move(address), timers, streams,
                                               std::move(placement_pool), std::move(board));
  link->Connect();
  return link;
}

WorkerLinkImpl::WorkerLinkImpl(const WorkerLinkOptions& options, std::string address, TimerQueue* timers,
                               StreamThreads* streams, std::shared_ptr<WorkPool> placement_pool,
                               std::shared_ptr<WorkerBoard> board)
    : options_(options),
      address_(std::move(address)),
      timers_(timers),
      streams_(streams),
      placement_pool_(std::move(placement_pool)),
      state_(std::move(board), address_),
      malformed_states_(kMalformedStateInterval),
      heartbeats_({.interval = options.heartbeat_interval, .silence_timeout = options.silence_timeout}),
      outliers_(options.outliers),
      backoff_(options.min_backoff, options.max_backoff) {}

Status WorkerLinkImpl::Submit(uint64_t sequence_id, const SequenceRequest& request,
                              std::shared_ptr<SequenceObserver> observer) {
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

bool WorkerLinkImpl::Prefetch(const Digest& adapter) {
  MutexLock lock(&mutex_);
  if (health_ != WorkerHealth::kReady || !state_.Expect(adapter, MonotonicNow())) return false;
  v1::GatewayMessage message;
  message.mutable_prefetch()->set_digest(adapter.ToBytes());
  return stream_->Send(std::move(message));  // a full queue costs the hint, not the stream
}

void WorkerLinkImpl::Cancel(uint64_t sequence_id) {
  MutexLock lock(&mutex_);
  if (!sequences_.Remove(sequence_id)) return;
  Publish();
  if (!attached_) return;
  v1::GatewayMessage message;
  message.mutable_cancel()->set_sequence_id(sequence_id);
  SendOrBreak(std::move(message));
}

void WorkerLinkImpl::Grant(uint64_t sequence_id, uint32_t tokens) {
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

WorkerReport WorkerLinkImpl::Report() const {
  MutexLock lock(&mutex_);
  WorkerReport report{address_, health_, message_, identity_, state_.levels()};
  if (health_ == WorkerHealth::kReady && state_.levels().draining) report.health = WorkerHealth::kDraining;
  if (health_ == WorkerHealth::kReady && state_.levels().device_lost) {
    report.health = WorkerHealth::kLost;
    report.message = "its device was lost; it is about to end";
  }
  report.ejections = outliers_.ejections();
  report.ejected_for = outliers_.ejected_for(MonotonicNow());
  if (report.ejected_for > absl::ZeroDuration()) {
    report.message += "; " + outliers_.InWords(report.ejected_for);
  }
  return report;
}

bool WorkerLinkImpl::Holds(const Digest& adapter) const {
  MutexLock lock(&mutex_);
  return health_ == WorkerHealth::kReady && state_.Holds(adapter);
}

size_t WorkerLinkImpl::sequences() const {
  MutexLock lock(&mutex_);
  return sequences_.size();
}

std::string WorkerLinkImpl::numeric_address() const {
  MutexLock lock(&mutex_);
  return stream_ == nullptr ? "" : NumericAddress(stream_->peer());
}

void WorkerLinkImpl::Stop(const Status& why) {
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

void WorkerLinkImpl::Publish() {
  const bool ready = health_ == WorkerHealth::kReady;
  state_.Stand({.alive_until = ready ? heartbeats_.alive_until() : MonotonicTime::InfinitePast(),
                .ejected_until = outliers_.ejected_until(),
                .refused = health_ == WorkerHealth::kRefused,
                .assigned = static_cast<uint32_t>(sequences_.n_active())});
}

void WorkerLinkImpl::SendOrBreak(v1::GatewayMessage message) {
  if (!stream_->Send(std::move(message))) stream_->Stop();
}

}  // namespace coterie::gateway
