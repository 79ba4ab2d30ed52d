#include "worker/service/worker_service.h"

#include <algorithm>
#include <random>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_format.h"
#include "common/check.h"
#include "common/clock.h"
#include "kernels/decoder_ops.h"
#include "spdlog/spdlog.h"
#include "worker/engine/sequence.h"
#include "worker/service/convert.h"

namespace coterie::worker {
namespace {

// At most so often are cached prefixes reported: they change with every block, and placement only takes
// hints. What one message could not take follows sooner.
constexpr absl::Duration kPrefixReportInterval = absl::Milliseconds(200);
constexpr absl::Duration kPrefixCatchUpInterval = absl::Milliseconds(20);
constexpr absl::Duration kMetricsInterval = absl::Milliseconds(500);
// Longest and shortest sleep between looks at the timers.
constexpr absl::Duration kMinWait = absl::Milliseconds(5);
constexpr absl::Duration kIdleInterval = absl::Milliseconds(500);

std::string DrawIncarnation() {
  std::random_device source;
  return absl::StrFormat("%08x%08x", source(), source());
}

absl::Duration ClampMs(uint32_t ms, absl::Duration low, absl::Duration high) {
  return std::clamp(absl::Milliseconds(ms), low, high);
}

}  // namespace

WorkerServiceImpl::WorkerServiceImpl(const WorkerServiceOptions& options, Engine* engine,
                                     const PeerTraffic* traffic, WorkerMetrics* metrics)
    : options_(options),
      engine_(engine),
      traffic_(traffic),
      metrics_(metrics),
      refusals_(metrics == nullptr ? nullptr : metrics->registry()),
      incarnation_(DrawIncarnation()),
      tracker_(std::clamp<size_t>(static_cast<size_t>(engine->model_info().n_kv_blocks), 1,
                                  StateTracker::kMaxPrefixes)),
      dispatcher_([this] { Dispatch(); }) {
  MarkMethodCallback(
      net::MethodIndex(v1::WorkerService::service_full_name(), "Attach"),
      net::BidiHandler<v1::GatewayMessage, v1::WorkerMessage>(this, &WorkerServiceImpl::Attach));
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

AttachStream* WorkerServiceImpl::Attach(grpc::CallbackServerContext* context) {
  auto* stream = new AttachStream(this, context, MonotonicNow());
  {
    MutexLock lock(&mutex_);
    streams_.insert(stream);
    if (stopping_) stream->End(grpc::Status(grpc::StatusCode::UNAVAILABLE, "the worker is stopping"));
  }
  stream->Start();
  return stream;
}

// --- Streams (gRPC's threads) ---

bool WorkerServiceImpl::OnMessage(AttachStream* stream, const v1::GatewayMessage& message) {
  StatusOr<std::unique_ptr<Sequence>> prepared = absl::UnknownError("not a submit");
  if (message.has_submit()) prepared = PrepareSubmit(stream, message.submit());
  MutexLock lock(&mutex_);
  if (stream->ended()) return false;
  if (stream->gateway_id.empty()) {
    if (message.message_case() != v1::GatewayMessage::kHello) {
      stream->End(
          grpc::Status(grpc::StatusCode::INVALID_ARGUMENT, "the first message of a stream must be hello"));
      return false;
    }
    OnHello(stream, message.hello());
    return !stream->ended();
  }
  GatewaySession* session = sessions_.at(stream->gateway_id).get();
  session->last_heard = MonotonicNow();
  if (session->n_unsent() > GatewaySession::kMaxUnsent) {
    spdlog::warn("gateway {} is cut off: it takes nothing while {} answers wait for it", session->id(),
                 session->n_unsent());
    stream->End({grpc::StatusCode::RESOURCE_EXHAUSTED,
                 absl::StrCat(session->n_unsent(), " answers wait to be read, the limit is ",
                              GatewaySession::kMaxUnsent, "; read them, or ask for less")},
                /*abandon=*/true);
    Detach(session, session->last_heard);
    return false;
  }
  switch (message.message_case()) {
    case v1::GatewayMessage::kHello:
      stream->End(grpc::Status(grpc::StatusCode::INVALID_ARGUMENT, "a second hello on one stream"));
      return false;
    case v1::GatewayMessage::kSubmit:
      OnSubmit(session, message.submit().sequence_id(), std::move(prepared));
      break;
    case v1::GatewayMessage::kCancel:
      Drop(session, message.cancel().sequence_id());
      break;
    case v1::GatewayMessage::kCredit:
      if (SequenceLog* log = session->Find(message.credit().sequence_id())) {
        engine_->AddCredit(log->engine_id(), message.credit().tokens());
      }
      break;
    case v1::GatewayMessage::kReattach:
      OnReattach(session, message.reattach());
      break;
    case v1::GatewayMessage::kPrefetch:
      if (StatusOr<Digest> digest = Digest::FromBytes(message.prefetch().digest()); digest.ok()) {
        engine_->Prefetch(*digest);
      }
      break;
    case v1::GatewayMessage::kHeartbeat:
    case v1::GatewayMessage::MESSAGE_NOT_SET:  // something a newer gateway says
      break;
  }
  Send(session, session->last_heard);
  return true;
}

void WorkerServiceImpl::OnWritten(AttachStream* stream, bool ok) {
  MutexLock lock(&mutex_);
  stream->MarkWritten();
  changed_.SignalAll();
  if (!ok || stream->ended() || stream->gateway_id.empty()) return;
  Send(sessions_.at(stream->gateway_id).get(), MonotonicNow());
}

void WorkerServiceImpl::OnClosed(AttachStream* stream, const Status& problem) {
  MutexLock lock(&mutex_);
  if (!stream->gateway_id.empty()) {
    GatewaySession* session = sessions_.at(stream->gateway_id).get();
    if (session->stream == stream) {
      spdlog::warn("gateway {} is gone ({}); keeping its {} sequences for {}", session->id(), stream->peer(),
                   session->n_unfinished(), absl::FormatDuration(options_.reattach_grace));
      Detach(session, MonotonicNow());
    }
  }
  if (!problem.ok()) return stream->End(net::RefusalOf(problem, &refusals_));
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

void WorkerServiceImpl::OnHello(AttachStream* stream, const v1::GatewayHello& hello) {
  if (const grpc::Status status = CheckHello(hello); !status.ok()) {
    spdlog::warn("gateway {} at {} refused: {}", absl::CHexEscape(hello.gateway_id().substr(0, 80)),
                 stream->peer(), status.error_message());
    return stream->End(status);
  }
  const MonotonicTime now = MonotonicNow();
  std::unique_ptr<GatewaySession>& slot = sessions_[hello.gateway_id()];
  const bool known = slot != nullptr;
  if (!known) {
    if (sessions_.size() > static_cast<size_t>(options_.max_gateways)) {
      sessions_.erase(hello.gateway_id());
      return stream->End({grpc::StatusCode::RESOURCE_EXHAUSTED,
                          absl::StrCat("this worker serves at most ", options_.max_gateways, " gateways")});
    }
    slot = std::make_unique<GatewaySession>(hello.gateway_id());
  }
  GatewaySession* session = slot.get();
  if (session->stream != nullptr) {
    session->stream->End({grpc::StatusCode::ABORTED, "a newer stream of this gateway took this one's place"},
                         /*abandon=*/true);
  }
  stream->gateway_id = hello.gateway_id();
  session->stream = stream;
  session->heartbeat_interval =
      ClampMs(hello.heartbeat_interval_ms(), absl::Milliseconds(20), absl::Minutes(1));
  session->silence_timeout =
      ClampMs(hello.silence_timeout_ms(), 2 * session->heartbeat_interval, absl::Minutes(10));
  session->last_heard = now;
  session->next_heartbeat = now + session->heartbeat_interval;
  session->away_since = MonotonicTime::InfiniteFuture();
  session->Suspend(now);
  session->report.Reset();
  session->prefixes_told_at = now;

  v1::WorkerHello* out = stream->outgoing()->mutable_hello();
  out->set_protocol_version(kProtocolVersion);
  out->set_worker_id(options_.worker_id);
  out->set_incarnation(incarnation_);
  out->set_base_digest(engine_->model_info().base_digest.ToBytes());
  out->set_tokenizer_digest(options_.tokenizer_digest.ToBytes());
  out->set_numerics_class(engine_->model_info().numerics_class);
  out->set_device(options_.device);
  out->set_max_sequence_tokens(static_cast<uint32_t>(engine_->max_sequence_tokens()));
  out->set_kv_block_tokens(kKvBlockTokens);
  out->set_kv_blocks(static_cast<uint32_t>(engine_->model_info().n_kv_blocks));
  out->set_adapter_slots(static_cast<uint32_t>(engine_->options().adapters.n_slots));
  out->set_max_waiting(static_cast<uint32_t>(engine_->options().max_waiting));
  out->set_max_running(static_cast<uint32_t>(engine_->options().max_seqs));
  out->set_reattach_grace_ms(static_cast<uint32_t>(absl::ToInt64Milliseconds(options_.reattach_grace)));
  for (const std::string& pattern : options_.serves) out->add_serves(pattern);
  for (const int id : engine_->model_info().eos_token_ids) out->add_end_token_ids(static_cast<uint32_t>(id));
  FillState(session, /*with_prefixes=*/true, out->mutable_state());
  stream->Write();
  timers_changed_ = true;
  engine_->InterruptWait();  // the dispatcher has a new clock to watch
  spdlog::info("gateway {} {} from {}", session->id(), known ? "came back" : "attached", stream->peer());
}

// Before the lock is taken that all answers are sent under: of a long prompt thousands of blocks are hashed.
StatusOr<std::unique_ptr<Sequence>> WorkerServiceImpl::PrepareSubmit(AttachStream* stream,
                                                                     const v1::Submit& submit) {
  {
    MutexLock lock(&mutex_);
    if (stream->ended() || stream->gateway_id.empty()) return absl::CancelledError("no gateway");
    if (draining_) {
      return absl::UnavailableError(
          absl::StrCat("worker ", options_.worker_id, " is draining; go on elsewhere"));
    }
  }
  ASSIGN_OR_RETURN(SequenceRequest request, RequestFromProto(submit, MonotonicNow()));
  return engine_->Prepare(std::move(request));
}

void WorkerServiceImpl::OnSubmit(GatewaySession* session, uint64_t id,
                                 StatusOr<std::unique_ptr<Sequence>> prepared) {
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
  if (Status status = engine_->Submit(*std::move(prepared)); !status.ok())
    return session->Refuse(id, std::move(status));
  // The dispatcher files events under the mutex held here: none can come before this.
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

void WorkerServiceImpl::Detach(GatewaySession* session, MonotonicTime now) {
  session->stream = nullptr;
  session->away_since = now;
  timers_changed_ = true;
}

// --- The dispatcher ---

void WorkerServiceImpl::Dispatch() {
  OutputBatch batch;
  MonotonicTime due = MonotonicNow();
  MonotonicTime metrics_due = metrics_ == nullptr ? MonotonicTime::InfiniteFuture() : due;
  while (true) {
    engine_->WaitOutputs(&batch, std::min(due, metrics_due));
    const MonotonicTime now = MonotonicNow();
    MutexLock lock(&mutex_);
    if (stopping_) return;
    meter_.Read(engine_->stats(), engine_->adapter_stats());
    File(batch, now);
    if (now >= due || std::exchange(timers_changed_, false)) due = RunTimers(now);
    for (auto& [id, session] : sessions_) Send(session.get(), now);
    changed_.SignalAll();
    if (now < metrics_due) continue;
    metrics_due = now + kMetricsInterval;
    std::set<std::string> running, waiting;
    size_t n_attached = 0;
    for (const auto& [id, session] : sessions_) {
      n_attached += session->stream != nullptr ? 1 : 0;
      for (const auto& [sequence_id, log] : session->sequences()) {
        if (!log->finished())
          (log->started() ? running : waiting).insert(log->experts.begin(), log->experts.end());
      }
    }
    metrics_->Publish(n_attached, running, waiting);
  }
}

void WorkerServiceImpl::File(OutputBatch& batch, MonotonicTime now) {
  tracker_.Apply(batch.residency, batch.prefixes);
  for (const OutputEvent& event : batch.events) {
    auto owner = owners_.find(event.id);
    if (owner == owners_.end()) continue;  // given up before
    SequenceLog* log = owner->second.log;
    if (metrics_ != nullptr && event.kind == OutputEvent::Kind::kToken && event.first) {
      metrics_->ObserveFirstToken(now - log->submitted());
    }
    log->Add(event, std::span(batch.logprobs).subspan(event.logprobs_begin, event.logprobs_count), now);
    if (metrics_ != nullptr && log->finished()) metrics_->ObserveFinish(log->finish(), log->experts);
    const bool ended = log->finish() == FinishReason::kStop || log->finish() == FinishReason::kLength;
    if (ended && log->end() > 0) meter_.NoteAnswer(log->end());  // scores have no answer
    owner->second.session->Touch(log);
  }
}

// Heartbeats, silence, grace times. Returns when it must run again.
MonotonicTime WorkerServiceImpl::RunTimers(MonotonicTime now) {
  MonotonicTime due = now + kIdleInterval;
  std::vector<std::string> forgotten;
  for (auto& [id, owned] : sessions_) {
    GatewaySession* session = owned.get();
    if (session->stream != nullptr && now - session->last_heard > session->silence_timeout) {
      spdlog::warn("gateway {} said nothing for {}; keeping its {} sequences for {}", id,
                   absl::FormatDuration(now - session->last_heard), session->n_unfinished(),
                   absl::FormatDuration(options_.reattach_grace));
      session->stream->End({grpc::StatusCode::DEADLINE_EXCEEDED, "the gateway said nothing for too long"},
                           /*abandon=*/true);
      Detach(session, now);
    }
    if (now - session->suspended_since > options_.reattach_grace) DropSuspended(session);
    // A gateway whose connection is a black hole notices after its silence timeout, and comes back within the
    // grace.
    std::vector<uint64_t> dropped;
    session->DropFinished(now - session->silence_timeout - options_.reattach_grace, &dropped);
    for (uint64_t engine_id : dropped) owners_.erase(engine_id);
    if (session->stream != nullptr) {
      due = std::min(due, session->last_heard + session->silence_timeout + absl::Milliseconds(1));
      // While a message is in flight, its end calls Send.
      if (session->stream->can_write()) {
        due = std::min(due, std::max(session->next_heartbeat, now + kMinWait));
        if (session->report.IsBehind(tracker_)) {
          due = std::min(due, std::max(session->prefixes_told_at + kPrefixCatchUpInterval, now + kMinWait));
        }
      }
    } else if (now - session->away_since > options_.reattach_grace) {
      forgotten.push_back(id);
    } else {
      due = std::min(due, session->away_since + options_.reattach_grace + absl::Milliseconds(1));
    }
  }
  for (const std::string& id : forgotten) {
    GatewaySession* session = sessions_.at(id).get();
    spdlog::info("gateway {} did not come back; dropping its {} sequences", id, session->n_unfinished());
    std::vector<uint64_t> ids;
    for (const auto& [sequence_id, log] : session->sequences()) ids.push_back(sequence_id);
    for (uint64_t sequence_id : ids) Drop(session, sequence_id);
    // Ended streams still on their way out keep their gateway's name: they no longer find a session of their
    // own.
    for (AttachStream* stream : streams_) {
      if (stream->gateway_id == id) stream->gateway_id.clear();
    }
    sessions_.erase(id);
  }
  for (AttachStream* stream : streams_) {
    if (stream->gateway_id.empty() && !stream->ended() && now - stream->opened() > options_.hello_timeout) {
      stream->End({grpc::StatusCode::DEADLINE_EXCEEDED,
                   absl::StrCat("no hello within ", absl::FormatDuration(options_.hello_timeout))},
                  /*abandon=*/true);
    }
  }
  return due;
}

void WorkerServiceImpl::Send(GatewaySession* session, MonotonicTime now) {
  AttachStream* stream = session->stream;
  if (stream == nullptr || !stream->can_write()) return;
  v1::WorkerMessage* message = stream->outgoing();
  message->Clear();
  const bool tell_prefixes = session->report.PrefixesChanged(tracker_) &&
                             now - session->prefixes_told_at >= PrefixInterval(*session);
  v1::WorkerState* state = nullptr;
  if (session->has_output()) {
    session->TakeOutput(message->mutable_step());
    state = message->mutable_step()->mutable_state();
  } else if (now >= session->next_heartbeat || session->report.ResidentsChanged(tracker_) || tell_prefixes) {
    message->mutable_heartbeat()->set_counter(++session->n_heartbeats);
    session->next_heartbeat = now + session->heartbeat_interval;
    state = message->mutable_heartbeat()->mutable_state();
  } else {
    return;
  }
  if (tell_prefixes) session->prefixes_told_at = now;
  FillState(session, tell_prefixes, state);
  stream->Write();
}

absl::Duration WorkerServiceImpl::PrefixInterval(const GatewaySession& session) const {
  return session.report.IsBehind(tracker_) ? kPrefixCatchUpInterval : kPrefixReportInterval;
}

void WorkerServiceImpl::FillState(GatewaySession* session, bool with_prefixes, v1::WorkerState* state) {
  const EngineStats& stats = engine_->stats();
  state->set_running(stats.running);
  state->set_waiting(stats.waiting);
  state->set_kv_blocks_used(stats.kv_blocks_used);
  state->set_draining(draining_);
  meter_.Fill(state);
  state->set_bytes_between_workers(traffic_->bytes());
  state->set_adapters_resident(engine_->adapter_stats().resident);
  state->set_preemptions(stats.preemptions);
  session->report.Fill(tracker_, with_prefixes, state);
}

// --- Ending ---

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
