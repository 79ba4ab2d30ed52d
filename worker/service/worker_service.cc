// A worker's service from its beginning to its end. Gateways attach: service_hello.cc. What they say:
// service_messages.cc. What they are told, and when: service_dispatcher.cc.
#include "worker/service/worker_service.h"

#include <algorithm>
#include <random>
#include <utility>

#include "absl/strings/str_format.h"
#include "common/clock.h"
#include "common/utf8.h"

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
                                     const PeerTraffic* traffic, WorkerMetrics* metrics, Gangs* gangs)
    : options_(options),
      engine_(engine),
      traffic_(traffic),
      metrics_(metrics),
      gangs_(gangs),
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

// What was said and is not yet on its way.
bool WorkerServiceImpl::HasUnsent() const {
  return std::any_of(sessions_.begin(), sessions_.end(), [](const auto& named) {
    const GatewaySession& session = *named.second;
    const AttachStream* stream = session.stream;
    return stream != nullptr && !stream->ended() && (session.has_output() || !stream->can_write());
  });
}

int WorkerServiceImpl::Drain(absl::Duration timeout) {
  auto unfinished = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    size_t n = 0;
    for (const auto& [id, session] : sessions_) n += session->n_unfinished();
    return static_cast<int>(n);
  };
  MutexLock lock(&mutex_);
  draining_ = true;
  for (auto& [id, session] : sessions_) session->next_heartbeat = MonotonicTime::InfinitePast();
  engine_->InterruptWait();
  const MonotonicTime deadline = MonotonicNow() + timeout;
  while ((unfinished() > 0 || HasUnsent()) && changed_.WaitUntil(&mutex_, deadline)) {
  }
  const int n_handed_over = unfinished();
  if (n_handed_over == 0) return 0;
  engine_->EndAll(absl::UnavailableError(
      absl::StrCat("worker ", options_.worker_id, " is shutting down; go on elsewhere from what was sent")));
  const MonotonicTime last = MonotonicNow() + absl::Seconds(2);
  while ((unfinished() > 0 || HasUnsent()) && changed_.WaitUntil(&mutex_, last)) {
  }
  return n_handed_over;
}

// Before their last output is sent, so that no gateway takes them for a planned hand-over.
void WorkerServiceImpl::NoteDeviceLost(const Status& why) {
  if (!device_lost_.ok()) return;
  device_lost_ = absl::UnavailableError(
      absl::StrCat("worker ", options_.worker_id, " lost its device: ", why.message()));
  for (auto& [id, session] : sessions_) {
    session->next_heartbeat = MonotonicTime::InfinitePast();
    n_handed_over_ += static_cast<int>(session->n_unfinished());
  }
}

// With the ends that came of it in the words that gateways get.
void WorkerServiceImpl::NoteDeviceLost(OutputBatch* batch) {
  NoteDeviceLost(batch->device_lost);
  for (OutputEvent& event : batch->events) {
    if (event.status == batch->device_lost) event.status = device_lost_;
  }
}

int WorkerServiceImpl::HandOver(const Status& why, absl::Duration timeout) {
  MutexLock lock(&mutex_);
  NoteDeviceLost(why);
  const MonotonicTime now = MonotonicNow();
  for (auto& [id, session] : sessions_) {
    for (auto& [sequence_id, log] : session->sequences()) {
      if (log->finished()) continue;
      OutputEvent end;
      end.kind = OutputEvent::Kind::kFinish;
      end.finish = FinishReason::kError;
      end.position = log->end();
      end.status = device_lost_;
      log->Add(end, {}, now);
      session->Touch(log.get());
      owners_.erase(log->engine_id());  // should the engine say something yet
    }
    Send(session.get(), now);
  }
  const MonotonicTime deadline = now + timeout;
  while (HasUnsent() && changed_.WaitUntil(&mutex_, deadline)) {
  }
  return n_handed_over_;
}

void WorkerServiceImpl::EndStreams() {
  MutexLock lock(&mutex_);
  for (AttachStream* stream : streams_) {
    stream->End({grpc::StatusCode::UNAVAILABLE,
                 device_lost_.ok() ? absl::StrCat("worker ", options_.worker_id, " is shutting down")
                                   : Printable(ToStd(device_lost_.message()))});
  }
}

}  // namespace coterie::worker
