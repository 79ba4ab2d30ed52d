// The dispatcher's thread: takes the engine's outputs, appends them to the sequences' logs, sends, beats the
// heart towards each gateway and notices lost heartbeats of theirs. WorkerServiceImpl.
#include <algorithm>
#include <memory>
#include <optional>
#include <set>
#include <utility>
#include <vector>

#include "common/clock.h"
#include "common/log/log.h"
#include "common/log/named.h"
#include "common/utf8.h"
#include "spdlog/spdlog.h"
#include "worker/engine/sequence.h"
#include "worker/service/sequence_trace.h"
#include "worker/service/worker_service.h"

namespace coterie::worker {
namespace {

// At most so often are cached prefixes reported: they change with every block, and placement only takes
// hints. What one message could not take follows sooner.
constexpr absl::Duration kPrefixReportInterval = absl::Milliseconds(200);
constexpr absl::Duration kPrefixCatchUpInterval = absl::Milliseconds(20);
constexpr absl::Duration kPlacesInterval = absl::Milliseconds(100);  // looks at every sequence
constexpr absl::Duration kMetricsInterval = absl::Milliseconds(500);
// Longest and shortest sleep between looks at the timers.
constexpr absl::Duration kMinWait = absl::Milliseconds(5);
constexpr absl::Duration kIdleInterval = absl::Milliseconds(500);

// Between two tellings of cached prefixes.
absl::Duration PrefixInterval(const GatewaySession& session, const StateTracker& tracker) {
  return session.report.IsBehind(tracker) ? kPrefixCatchUpInterval : kPrefixReportInterval;
}

}  // namespace

void WorkerServiceImpl::Dispatch() {
  OutputBatch batch;
  MonotonicTime due = MonotonicNow();
  MonotonicTime metrics_due = metrics_ == nullptr ? MonotonicTime::InfiniteFuture() : due;
  while (true) {
    engine_->WaitOutputs(&batch, std::min(due, metrics_due));
    const Status device_lost = batch.device_lost;
    for (const std::unique_ptr<Sequence>& sequence : batch.retired) NoteRetired(*sequence);
    {
      const MonotonicTime now = MonotonicNow();
      MutexLock lock(&mutex_);
      if (stopping_) return;
      meter_.Read(engine_->stats(), engine_->adapter_stats());
      if (!device_lost.ok()) NoteDeviceLost(&batch);
      AppendToLogs(batch, now);
      if (now >= due || std::exchange(timers_changed_, false)) due = RunTimers(now);
      for (auto& [id, session] : sessions_) Send(session.get(), now);
      changed_.SignalAll();
      if (now >= metrics_due) {
        metrics_due = now + kMetricsInterval;
        PublishMetrics();
      }
    }
    if (!device_lost.ok() && options_.on_device_lost) options_.on_device_lost(device_lost);
  }
}

// --- Outputs ---

void WorkerServiceImpl::NoteRetired(const Sequence& sequence) {
  WriteSequenceSpans(sequence);
  // The others go on elsewhere, and are told where they come from.
  if (sequence.error.ok() || absl::IsUnavailable(sequence.error) || absl::IsResourceExhausted(sequence.error))
    return;
  const std::optional<uint64_t> n_left_out = failed_sequences_.Note(MonotonicNow());
  if (!n_left_out) return;
  const LogTrace line(sequence.request.trace_id, sequence.request.trace.root());
  spdlog::warn("a sequence of {} failed: {} ({} more since the last such line)",
               Named("expert", ExpertsOf(sequence.request)),
               Named("why", Printable(ToStd(sequence.error.message()))), Named("left_out", *n_left_out));
}

void WorkerServiceImpl::AppendToLogs(OutputBatch& batch, MonotonicTime now) {
  tracker_.Apply(batch.residency, batch.prefixes);
  for (const OutputEvent& event : batch.events) {
    if (gangs_ != nullptr) gangs_->OnEvent(event);
    auto owner = owners_.find(event.id);
    if (owner == owners_.end()) continue;  // given up before
    SequenceLog* log = owner->second.log;
    if (metrics_ != nullptr && event.kind == OutputEvent::Kind::kToken && event.first) {
      metrics_->ObserveFirstToken(now - log->submitted());
      metrics_->ObserveStart(log->experts, event.waited_for_adapter, absl::Milliseconds(event.queued_ms));
    }
    log->Add(event, std::span(batch.logprobs).subspan(event.logprobs_begin, event.logprobs_count), now);
    if (metrics_ != nullptr && log->finished()) metrics_->ObserveFinish(log->finish(), log->experts);
    const bool ended = log->finish() == FinishReason::kStop || log->finish() == FinishReason::kLength;
    if (ended && log->end() > 0) meter_.NoteAnswer(log->end());  // scores have no answer
    owner->second.session->Touch(log);
  }
}

void WorkerServiceImpl::Send(GatewaySession* session, MonotonicTime now) {
  AttachStream* stream = session->stream;
  if (stream == nullptr || !stream->can_write()) return;
  v1::WorkerMessage* message = stream->outgoing();
  message->Clear();
  const bool tell_prefixes = session->report.PrefixesChanged(tracker_) &&
                             now - session->prefixes_told_at >= PrefixInterval(*session, tracker_);
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

// What the others hold is not there for a gateway, and what they do not hold is lent to it; an even part
// among those that hold something is its own in any case, so that one which comes late gets it as the others'
// sequences end.
void WorkerServiceImpl::DividePlaces(MonotonicTime now) {
  places_due_ = now + kPlacesInterval;
  const auto all = static_cast<uint64_t>(engine_->options().max_seqs + engine_->options().max_waiting);
  uint64_t n_held = 0, n_holders = 0;
  std::vector<std::pair<GatewaySession*, uint64_t>> held;
  for (auto& [id, session] : sessions_) {
    held.emplace_back(session.get(), session->n_unfinished());
    n_held += held.back().second;
    n_holders += held.back().second > 0 ? 1 : 0;
  }
  for (const auto& [session, n_own] : held) {
    const uint64_t even = all / (n_holders + (n_own > 0 ? 0 : 1));
    const uint64_t left = all - std::min(all, n_held - n_own);
    session->places = static_cast<uint32_t>(std::max({uint64_t{1}, even, left}));
  }
}

void WorkerServiceImpl::FillState(GatewaySession* session, bool with_prefixes, v1::WorkerState* state) {
  const MonotonicTime now = MonotonicNow();
  if (now >= places_due_ || session->places == 0) DividePlaces(now);
  state->set_places(session->places);
  const EngineStats& stats = engine_->stats();
  state->set_running(stats.running);
  state->set_waiting(stats.waiting);
  state->set_kv_blocks_used(stats.kv_blocks_used);
  state->set_draining(draining_);
  state->set_device_lost(!device_lost_.ok());
  meter_.Fill(state);
  state->set_bytes_between_workers(traffic_->bytes());
  state->set_adapters_resident(engine_->adapter_stats().resident);
  state->set_preemptions(stats.preemptions);
  session->report.Fill(tracker_, with_prefixes, state);
}

void WorkerServiceImpl::PublishMetrics() {
  std::set<std::string> running, waiting;
  size_t n_attached = 0;
  for (const auto& [id, session] : sessions_) {
    n_attached += session->stream != nullptr ? 1 : 0;
    for (const auto& [sequence_id, log] : session->sequences()) {
      if (log->finished()) continue;
      (log->started() ? running : waiting).insert(log->experts.begin(), log->experts.end());
    }
  }
  metrics_->Publish(n_attached, running, waiting);
}

// --- Timers ---

MonotonicTime WorkerServiceImpl::RunTimers(MonotonicTime now) {
  MonotonicTime due = now + kIdleInterval;
  std::vector<std::string> forgotten;
  for (auto& [id, session] : sessions_) {
    EndIfSilent(session.get(), now);
    DropExpired(session.get(), now);
    if (session->stream == nullptr && now - session->away_since > options_.reattach_grace) {
      forgotten.push_back(id);
    } else {
      due = std::min(due, NextDue(*session, now));
    }
  }
  for (const std::string& id : forgotten) ForgetGateway(id);
  for (AttachStream* stream : streams_) {
    if (stream->gateway_id.empty() && !stream->ended() && now - stream->opened() > options_.hello_timeout) {
      stream->End({grpc::StatusCode::DEADLINE_EXCEEDED,
                   absl::StrCat("no hello within ", absl::FormatDuration(options_.hello_timeout))},
                  /*abandon=*/true);
    }
  }
  return due;
}

void WorkerServiceImpl::EndIfSilent(GatewaySession* session, MonotonicTime now) {
  const absl::Duration silence = now - session->last_heard;
  if (session->stream == nullptr || silence <= session->silence_timeout) return;
  spdlog::warn("gateway {} said nothing for {} (its heartbeats are lost); keeping its {} sequences for {}",
               Named("gateway", session->id()), Named("silence", absl::FormatDuration(silence)),
               Named("sequences", session->n_unfinished()),
               Named("grace", absl::FormatDuration(options_.reattach_grace)));
  session->stream->End({grpc::StatusCode::DEADLINE_EXCEEDED, "the gateway said nothing for too long"},
                       /*abandon=*/true);
  Detach(session, now);
}

void WorkerServiceImpl::DropExpired(GatewaySession* session, MonotonicTime now) {
  if (now - session->suspended_since > options_.reattach_grace) DropSuspended(session);
  // A gateway whose connection is a black hole notices after its silence timeout, and comes back within the
  // grace.
  std::vector<uint64_t> dropped;
  session->DropFinished(now - session->silence_timeout - options_.reattach_grace, &dropped);
  for (uint64_t engine_id : dropped) owners_.erase(engine_id);
}

MonotonicTime WorkerServiceImpl::NextDue(const GatewaySession& session, MonotonicTime now) const {
  constexpr absl::Duration kJustBeyond = absl::Milliseconds(1);
  if (session.stream == nullptr) return session.away_since + options_.reattach_grace + kJustBeyond;
  MonotonicTime due = session.last_heard + session.silence_timeout + kJustBeyond;
  if (!session.stream->can_write()) return due;  // a message is in flight, whose end calls Send
  due = std::min(due, std::max(session.next_heartbeat, now + kMinWait));
  if (session.report.IsBehind(tracker_)) {
    due = std::min(due, std::max(session.prefixes_told_at + kPrefixCatchUpInterval, now + kMinWait));
  }
  return due;
}

void WorkerServiceImpl::ForgetGateway(const std::string& id) {
  GatewaySession* session = sessions_.at(id).get();
  spdlog::info("gateway {} did not come back; dropping its {} sequences", Named("gateway", id),
               Named("sequences", session->n_unfinished()));
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

}  // namespace coterie::worker
