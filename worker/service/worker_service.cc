// A worker's service from its beginning to its end. Gateways attach: service_hello.cc. What they say:
// service_messages.cc. What they are told, and when: service_dispatcher.cc.
#include "worker/service/worker_service.h"

#include <algorithm>
#include <random>
#include <utility>

#include "absl/strings/str_format.h"
#include "common/clock.h"

namespace coterie::worker {
namespace {

// Between two lines of the log about gateways that were refused: anybody may knock as often as he likes.
constexpr absl::Duration kRefusedHelloInterval = absl::Seconds(10);

std::string DrawIncarnation() {
  std::random_device source;
  return absl::StrFormat("%08x%08x", source(), source());
}

}  // namespace

WorkerServiceImpl::WorkerServiceImpl(const WorkerServiceOptions& options, Engine* engine,
                                     const PeerTraffic* traffic, WorkerMetrics* metrics)
    : options_(options),
      engine_(engine),
      traffic_(traffic),
      metrics_(metrics),
      bad_calls_(metrics == nullptr ? nullptr : metrics->registry()),
      incarnation_(DrawIncarnation()),
      tracker_(std::clamp<size_t>(static_cast<size_t>(engine->model_info().n_kv_blocks), 1,
                                  StateTracker::kMaxPrefixes)),
      refused_hellos_(kRefusedHelloInterval),
      dispatcher_([this] { Dispatch(); }) {
  MarkMethodCallback(
      net::MethodIndex(v1::WorkerService::service_full_name(), "Attach"),
      net::BidiHandler<v1::GatewayMessage, v1::WorkerMessage>(this, &WorkerServiceImpl::Accept));
}

WorkerServiceImpl::~WorkerServiceImpl() {
  EndStreams();
  {
    MutexLock lock(&mutex_);
    while (!streams_.empty()) changed_.Wait(&mutex_);
    stopping_ = true;
  }
  engine_->InterruptWait();
  dispatcher_.join();
}

AttachStream* WorkerServiceImpl::Accept(grpc::CallbackServerContext* context) {
  auto* stream = new AttachStream(this, context, MonotonicNow());
  {
    MutexLock lock(&mutex_);
    streams_.insert(stream);
    if (stopping_) stream->End(grpc::Status(grpc::StatusCode::UNAVAILABLE, "the worker is stopping"));
  }
  stream->Start();
  return stream;
}

int WorkerServiceImpl::Drain(absl::Duration timeout) {
  auto unfinished = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    size_t n = 0;
    for (const auto& [id, session] : sessions_) n += session->n_unfinished();
    return static_cast<int>(n);
  };
  // What was said must also be on its way.
  auto unsent = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return std::any_of(sessions_.begin(), sessions_.end(), [](const auto& named) {
      const GatewaySession& session = *named.second;
      const AttachStream* stream = session.stream;
      return stream != nullptr && !stream->ended() && (session.has_output() || !stream->can_write());
    });
  };
  MutexLock lock(&mutex_);
  draining_ = true;
  for (auto& [id, session] : sessions_) session->next_heartbeat = MonotonicTime::InfinitePast();
  engine_->InterruptWait();
  const MonotonicTime deadline = MonotonicNow() + timeout;
  while ((unfinished() > 0 || unsent()) && changed_.WaitUntil(&mutex_, deadline)) {
  }
  const int n_handed_over = unfinished();
  if (n_handed_over == 0) return 0;
  engine_->EndAll(absl::UnavailableError(
      absl::StrCat("worker ", options_.worker_id, " is shutting down; go on elsewhere from what was sent")));
  const MonotonicTime last = MonotonicNow() + absl::Seconds(2);
  while ((unfinished() > 0 || unsent()) && changed_.WaitUntil(&mutex_, last)) {
  }
  return n_handed_over;
}

void WorkerServiceImpl::EndStreams() {
  MutexLock lock(&mutex_);
  for (AttachStream* stream : streams_) {
    stream->End(
        {grpc::StatusCode::UNAVAILABLE, absl::StrCat("worker ", options_.worker_id, " is shutting down")});
  }
}

}  // namespace coterie::worker
