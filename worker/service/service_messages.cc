// What gateways say, message by message, and what becomes of their streams (gRPC's threads):
// WorkerServiceImpl.
#include <algorithm>
#include <optional>
#include <utility>

#include "common/clock.h"
#include "common/log/named.h"
#include "spdlog/spdlog.h"
#include "worker/engine/sequence.h"
#include "worker/service/convert.h"
#include "worker/service/worker_service.h"

namespace coterie::worker {

// --- Streams ---

bool WorkerServiceImpl::OnMessage(AttachStream* stream, const v1::GatewayMessage& message) {
  StatusOr<std::unique_ptr<Sequence>> prepared = absl::UnknownError("not a submit");
  // Before it is known whether the sender may: it takes no lock, and bounds itself.
  if (message.has_submit()) prepared = PrepareSubmit(stream, message.submit());
  MutexLock lock(&mutex_);
  if (stream->ended()) return false;
  if (stream->gateway_id.empty()) {
    Welcome(stream, message);
    return !stream->ended();
  }
  if (message.has_hello()) {
    stream->End({grpc::StatusCode::INVALID_ARGUMENT, "a second hello on one stream"});
    return false;
  }
  GatewaySession* session = sessions_.at(stream->gateway_id).get();
  session->last_heard = MonotonicNow();  // a heartbeat says nothing else
  if (session->n_unsent() > GatewaySession::kMaxUnsent) {
    CutOff(session, session->last_heard);
    return false;
  }
  Obey(session, message, std::move(prepared));
  Send(session, session->last_heard);
  return true;
}

void WorkerServiceImpl::OnWritten(AttachStream* stream, bool ok) {
  MutexLock lock(&mutex_);
  stream->MarkWritten();
  changed_.SignalAll();
  if (!ok || stream->ended()) return;
  if (stream->unproven && stream->unproven->proven) {
    const v1::GatewayHello hello = stream->unproven->hello;
    stream->unproven.reset();
    OnHello(stream, hello);
    return;
  }
  if (stream->gateway_id.empty()) return;
  Send(sessions_.at(stream->gateway_id).get(), MonotonicNow());
}

void WorkerServiceImpl::OnClosed(AttachStream* stream, const Status& problem) {
  MutexLock lock(&mutex_);
  if (!stream->gateway_id.empty()) {
    GatewaySession* session = sessions_.at(stream->gateway_id).get();
    if (session->stream == stream) {
      spdlog::warn("gateway {} is gone ({}); keeping its {} sequences for {}",
                   Named("gateway", session->id()), Named("peer", stream->peer()),
                   Named("sequences", session->n_unfinished()),
                   Named("grace", absl::FormatDuration(options_.reattach_grace)));
      Detach(session, MonotonicNow());
    }
  }
  if (!problem.ok()) return stream->End(net::RefusalOf(problem, &bad_calls_));
  if (!stream->gateway_id.empty()) return stream->End(grpc::Status::OK);
  stream->End({grpc::StatusCode::INVALID_ARGUMENT, "the stream ended before its hello"});
}

void WorkerServiceImpl::OnGone(AttachStream* stream) {
  MutexLock lock(&mutex_);
  if (auto found = sessions_.find(stream->gateway_id);
      found != sessions_.end() && found->second->stream == stream) {
    Detach(found->second.get(), MonotonicNow());
  }
  streams_.erase(stream);
  changed_.SignalAll();
}

void WorkerServiceImpl::CutOff(GatewaySession* session, MonotonicTime now) {
  spdlog::warn("gateway {} is cut off: it takes nothing while {} answers wait for it",
               Named("gateway", session->id()), Named("unsent", session->n_unsent()));
  session->stream->End({grpc::StatusCode::RESOURCE_EXHAUSTED,
                        absl::StrCat(session->n_unsent(), " answers wait to be read, the limit is ",
                                     GatewaySession::kMaxUnsent, "; read them, or ask for less")},
                       /*abandon=*/true);
  Detach(session, now);
}

void WorkerServiceImpl::Detach(GatewaySession* session, MonotonicTime now) {
  session->stream = nullptr;
  session->away_since = now;
  timers_changed_ = true;
}

// --- Messages of an attached gateway ---

void WorkerServiceImpl::Obey(GatewaySession* session, const v1::GatewayMessage& message,
                             StatusOr<std::unique_ptr<Sequence>> prepared) {
  switch (message.message_case()) {
    case v1::GatewayMessage::kSubmit:
      return OnSubmit(session, message.submit().sequence_id(), std::move(prepared));
    case v1::GatewayMessage::kCancel:
      return Drop(session, message.cancel().sequence_id());
    case v1::GatewayMessage::kCredit:
      if (const SequenceLog* log = session->Find(message.credit().sequence_id())) {
        engine_->AddCredit(log->engine_id(), message.credit().tokens());
      }
      return;
    case v1::GatewayMessage::kReattach:
      return OnReattach(session, message.reattach());
    case v1::GatewayMessage::kPrefetch:
      if (StatusOr<Digest> digest = Digest::FromBytes(message.prefetch().digest()); digest.ok()) {
        engine_->Prefetch(*digest);
      }
      return;
    case v1::GatewayMessage::kHello:
    case v1::GatewayMessage::kChallengeAnswer:
    case v1::GatewayMessage::kHeartbeat:
    case v1::GatewayMessage::MESSAGE_NOT_SET:  // something a newer gateway says
      return;
  }
}

// Before the lock is taken that all answers are sent under: of a long prompt thousands of blocks are hashed.
StatusOr<std::unique_ptr<Sequence>> WorkerServiceImpl::PrepareSubmit(AttachStream* stream,
                                                                     const v1::Submit& submit) {
  {
    MutexLock lock(&mutex_);
    if (stream->ended() || stream->gateway_id.empty()) return absl::CancelledError("no gateway");
    RETURN_IF_ERROR(device_lost_);
    if (draining_) {
      return absl::UnavailableError(
          absl::StrCat("worker ", options_.worker_id, " is draining; go on elsewhere"));
    }
  }
  const MonotonicTime now = MonotonicNow();
  ASSIGN_OR_RETURN(SequenceRequest request, RequestFromProto(submit, now));
  const Trace trace =
      options_.tracer.Begin(request.trace_context, std::nullopt, "sequence", SpanKind::kServer, now);
  if (trace) trace.Note(trace.root(), {"coterie.worker", options_.worker_id});
  request.trace = trace;
  StatusOr<std::unique_ptr<Sequence>> prepared = engine_->Prepare(std::move(request));
  if (!prepared.ok()) trace.Close(trace.root(), prepared.status());
  return prepared;
}

void WorkerServiceImpl::OnSubmit(GatewaySession* session, uint64_t id,
                                 StatusOr<std::unique_ptr<Sequence>> prepared) {
  session->has_asked = true;
  if (session->Find(id) != nullptr) {
    Drop(session, id);
    return session->Refuse(id,
                           absl::AlreadyExistsError(absl::StrCat("sequence ", id, " was submitted twice")));
  }
  if (!prepared.ok()) return session->Refuse(id, prepared.status());
  SequenceRequest& request = (*prepared)->request;
  request.id = next_engine_id_++;
  const uint64_t engine_id = request.id;
  auto log = std::make_unique<SequenceLog>(id, engine_id, (*prepared)->answer_position(),
                                           request.prompt_logprobs_from.has_value(), MonotonicNow());
  for (const AdapterUse& use : request.adapters) {
    log->experts.push_back(use.name.empty() ? use.digest.Short() : use.name);
  }
  const bool in_gang = request.gang.has_value();
  if (in_gang) {
    const Status status = gangs_ != nullptr
                              ? gangs_->Start(**prepared)
                              : absl::UnimplementedError(absl::StrCat(
                                    "worker ", options_.worker_id, " answers nothing together with others"));
    if (!status.ok()) return session->Refuse(id, status);
  }
  const Trace trace = request.trace;
  if (Status status = engine_->Submit(*std::move(prepared)); !status.ok()) {
    trace.Close(trace.root(), status);
    if (in_gang) gangs_->Drop(engine_id);
    return session->Refuse(id, std::move(status));
  }
  // The dispatcher appends events under the mutex held here: none can come before this.
  owners_[engine_id] = {session, session->Insert(std::move(log))};
}

void WorkerServiceImpl::OnReattach(GatewaySession* session, const v1::Reattach& reattach) {
  for (const v1::Reattach::Position& position : reattach.sequences()) {
    const uint64_t id = position.sequence_id();
    SequenceLog* log = session->Find(id);
    if (log == nullptr || !log->Rewind(position.next_position())) {
      Drop(session, id);
      session->Refuse(
          id, absl::NotFoundError(absl::StrCat("worker ", options_.worker_id, " does not know sequence ", id,
                                               " up to position ", position.next_position())));
      continue;
    }
    log->suspended = false;
    engine_->SetCreditUntil(log->engine_id(),
                            position.next_position() + std::min(position.credit(), kMaxCredit));
    session->Touch(log);
  }
  DropSuspended(session);  // what was not listed
}

void WorkerServiceImpl::Drop(GatewaySession* session, uint64_t sequence_id) {
  SequenceLog* log = session->Find(sequence_id);
  if (log == nullptr) return;
  if (!log->finished()) engine_->Cancel(log->engine_id());
  owners_.erase(log->engine_id());
  session->Erase(sequence_id);
}

void WorkerServiceImpl::DropSuspended(GatewaySession* session) {
  std::vector<uint64_t> ids;
  for (const auto& [id, log] : session->sequences()) {
    if (log->suspended) ids.push_back(id);
  }
  for (uint64_t id : ids) Drop(session, id);
  session->suspended_since = MonotonicTime::InfiniteFuture();
}

}  // namespace coterie::worker
