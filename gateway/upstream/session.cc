#include "gateway/upstream/session.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_join.h"
#include "common/adapter_failure.h"
#include "common/clock.h"
#include "common/lost_worker.h"

namespace coterie::gateway {

std::shared_ptr<Session> Session::Start(const SessionOptions& options, WorkerPool* pool, TimerQueue* timers,
                                        SequenceRequest request, PlacementRequest placement,
                                        std::vector<PrefixKey> prefix_keys,
                                        std::shared_ptr<SessionListener> listener) {
  std::shared_ptr<Session> session(new Session(options, pool, timers, std::move(request),
                                               std::move(placement), std::move(prefix_keys),
                                               std::move(listener)));
  MutexLock lock(&session->mutex_);
  session->placement_.prefix_keys = session->prefix_keys_;
  session->PlaceLocked();
  return session;
}

Session::Session(const SessionOptions& options, WorkerPool* pool, TimerQueue* timers, SequenceRequest request,
                 PlacementRequest placement, std::vector<PrefixKey> prefix_keys,
                 std::shared_ptr<SessionListener> listener)
    : options_(options),
      pool_(pool),
      timers_(timers),
      prefix_keys_(std::move(prefix_keys)),
      listener_(std::move(listener)),
      request_(std::move(request)),
      placement_(std::move(placement)),
      budget_(options.max_moves, MonotonicNow()),
      poll_(options.worker_poll, 5 * options.worker_poll) {}

void Session::DescribePlacementLocked() {
  placement_.n_prompt_tokens = static_cast<uint32_t>(request_.prompt_ids.size()) + received();
  placement_.max_new_tokens =
      request_.sampling.max_tokens - std::min(request_.sampling.max_tokens, received());
  placement_.numerics_class = received() > 0 ? numerics_class_ : "";
}

void Session::PlaceLocked() {
  DescribePlacementLocked();
  while (true) {
    std::vector<uint32_t> homeless;
    const MonotonicTime begin = request_.trace ? MonotonicNow() : MonotonicTime();
    StatusOr<WorkerPool::Placed> placed = pool_->Place(placement_, &homeless);
    if (!placed.ok()) {
      if (GoOnWithoutLocked(homeless)) continue;
      return NobodyTakesItLocked(placed.status());
    }
    const uint64_t id = pool_->NextSequenceId();
    const uint32_t until = std::max(acknowledged_ + options_.window_tokens, received());
    request_.initial_credit = until - received();
    // Known before Submit returns: the first output may be quicker.
    link_ = placed->home;
    sequence_id_ = id;
    worker_ = placed->worker;
    worker_class_ = placed->numerics_class;
    worker_invariant_ = placed->batch_invariant;
    worker_room_ = placed->room_tokens;
    placement_reason_ = placed->reason;
    granted_until_ = until;
    started_ = false;
    reattached_ = false;
    TraceAttemptLocked(begin);
    const Status submitted = link_->Submit(id, request_, shared_from_this());
    if (submitted.ok()) return;
    CloseAttemptLocked(submitted);
    placement_.exclude.insert(WorkerAtFaultLocked(submitted));
    link_.reset();
  }
}

void Session::TraceAttemptLocked(MonotonicTime placing_began) {
  const Trace& trace = request_.trace;
  if (!trace) return;
  const MonotonicTime now = MonotonicNow();
  trace.Add(trace.root(), "place", placing_began, now, {{"coterie.reason", placement_reason_}});
  attempt_span_ = trace.Open(trace.root(), "attempt", SpanKind::kClient, now);
  trace.Note(attempt_span_, {"coterie.worker", worker_});
  trace.Note(attempt_span_, {"coterie.resumed_tokens", received()});
  request_.trace_context = trace.ContextOf(attempt_span_);
}

void Session::CloseAttemptLocked(const Status& status) {
  request_.trace.Close(attempt_span_, status);
  attempt_span_ = SpanId();
}

std::string Session::WorkerAtFaultLocked(const Status& error) const {
  const std::string lost = LostWorker(error);
  return lost.empty() ? worker_ : lost;
}

bool Session::GoOnWithoutLocked(const std::vector<uint32_t>& homeless) {
  const size_t n_members = request_.mixture.size();
  if (received() == 0 || homeless.empty() || homeless.size() >= n_members ||
      n_members != request_.adapters.size()) {
    return false;
  }
  const MonotonicTime now = MonotonicNow();
  if (waits_since_ == MonotonicTime::InfiniteFuture()) waits_since_ = now;
  if (now - waits_since_ < options_.member_wait) return false;
  std::vector<std::string> names;
  for (auto member = homeless.rbegin(); member != homeless.rend(); ++member) {  // ascending as they come
    names.push_back(request_.adapters[*member].name);
    request_.mixture.erase(request_.mixture.begin() + *member);
    request_.adapters.erase(request_.adapters.begin() + *member);
    placement_.adapters.erase(placement_.adapters.begin() + *member);
  }
  double sum = 0;
  for (const MixtureMember& member : request_.mixture) sum += static_cast<double>(member.weight);
  for (MixtureMember& member : request_.mixture) {
    member.weight = static_cast<float>(static_cast<double>(member.weight) / sum);
  }
  placement_.n_rows = static_cast<uint32_t>(request_.mixture.size());
  placement_.prefix_keys = {};  // those of the first row, which may have gone
  members_lost_ = true;
  absl::StrAppend(&move_reason_, move_reason_.empty() ? "" : "; ", "no worker holds ",
                  absl::StrJoin(names, ", "),
                  " now: the answer goes on without, the other members' weights in proportion");
  return true;
}

void Session::PlaceLaterLocked() {
  const Status status = pool_->Later([self = shared_from_this()] {
    MutexLock lock(&self->mutex_);
    if (self->listener_ != nullptr && self->link_ == nullptr) self->PlaceLocked();
  });
  if (status.ok()) return;
  if (absl::IsUnavailable(status)) return EndLocked({absl::UnavailableError("the gateway is shutting down")});
  PlaceAfterLocked(options_.worker_poll);
}

void Session::PlaceAfterLocked(absl::Duration delay) {
  timer_ = timers_->After(delay, [weak = weak_from_this()] {
    const auto self = std::static_pointer_cast<Session>(weak.lock());
    if (self == nullptr) return;
    MutexLock lock(&self->mutex_);
    if (self->listener_ != nullptr && self->link_ == nullptr) self->PlaceLaterLocked();
  });
}

void Session::NobodyTakesItLocked(const Status& why) {
  const MonotonicTime now = MonotonicNow();
  if (waits_since_ == MonotonicTime::InfiniteFuture()) {
    waits_since_ = now;
    if (request_.trace) {
      request_.trace.Event(request_.trace.root(), "no worker takes it",
                           {{"coterie.why", ToStd(why.message())}});
    }
  }
  const SessionEnd end = WhyNobodyLocked(why, now);
  if (!end.status.ok()) return EndLocked(end);
  // The next round asks them all again.
  placement_.exclude.clear();
  n_refusals_ = 0;
  refusal_ = adapter_error_ = absl::OkStatus();
  PlaceAfterLocked(poll_.Next());
}

SessionEnd Session::WhyNobodyLocked(const Status& why, MonotonicTime now) {
  // A running answer waits longer than a question: its client has a part of it already.
  const bool is_new = received() == 0 && n_losses_ == 0 && !moved_;
  const absl::Duration waited = now - waits_since_;
  const bool is_over = waited >= options_.worker_wait || now >= request_.deadline;
  // A full queue before an adapter's error: asked later, that worker may well load it.
  if (!refusal_.ok()) {
    if (is_over || (is_new && waited >= options_.queue_wait)) return {refusal_};
    return {};
  }
  if (!adapter_error_.ok()) {
    const bool may_appear = absl::IsNotFound(adapter_error_) && waited < options_.adapter_wait;
    if (is_over || (is_new && !may_appear)) {
      return {.status = adapter_error_,
              .finish = FinishReason::kError,
              .worker = worker_,
              .numerics_class = worker_class_,
              .adapter_failed = received() == 0};
    }
    return {};
  }
  // What no worker can ever take needs no second look, unless it is an answer that began on a larger one.
  if (is_new && !absl::IsUnavailable(why)) return {why};
  if (!is_over) return {};
  return {absl::UnavailableError(absl::StrCat(
      "no worker for the request within ", absl::FormatDuration(options_.worker_wait), ": ", why.message()))};
}

void Session::DropAttemptLocked() {
  CloseAttemptLocked(absl::OkStatus());
  if (link_ != nullptr) link_->Cancel(sequence_id_);
  link_.reset();
  sequence_id_ = 0;
}

bool Session::WasWholeLocked() const {
  if (request_.score_only || received() == 0) return false;
  return received() >= request_.sampling.max_tokens ||
         (worker_room_ > 0 && request_.prompt_ids.size() + received() >= worker_room_);
}

// Failover. The tokens so far are in resume_ids, so whoever takes the sequence next goes on behind them.
void Session::MoveLocked(const WorkerLoss& loss) {
  if (request_.trace) {
    request_.trace.Event(request_.trace.root(), "fail-over",
                         {{"coterie.worker", worker_},
                          {"coterie.why", ToStd(loss.why.message())},
                          {"coterie.planned", loss.planned},
                          {"coterie.answer_tokens", received()}});
  }
  CloseAttemptLocked(loss.why);
  DropAttemptLocked();
  if (!loss.planned) {
    ++n_losses_;
    if (!budget_.Take(MonotonicNow(), received())) {
      return EndLocked({absl::UnavailableError(
          absl::StrCat("the answer lost its worker ", n_losses_,
                       " times and got on by too little in between (--max-moves ", options_.max_moves,
                       "), the last time because ", loss.why.message()))});
    }
  }
  moved_ = true;
  move_reason_ = std::string(loss.why.message());
  waits_since_ = MonotonicTime::InfiniteFuture();
  if (request_.prompt_logprobs_from) listener_->OnPromptLogprobsVoid();
  if (WasWholeLocked()) {
    // Only the word that it is finished was lost.
    return EndLocked({absl::OkStatus(), FinishReason::kLength, std::nullopt, worker_, worker_class_});
  }
  PlaceLaterLocked();
}

void Session::TryAnotherLocked(const std::string& worker) {
  placement_.exclude.insert(worker);
  DropAttemptLocked();
  // Each refusal was a submit and a placement: a full cluster must not be walked to its end.
  if (++n_refusals_ < options_.max_refusals) return PlaceLaterLocked();
  NobodyTakesItLocked(absl::UnavailableError(absl::StrCat(n_refusals_, " workers refused it")));
}

void Session::AnnounceLocked() {
  SessionPlacement event;
  event.worker = worker_;
  event.numerics_class = worker_class_;
  if (!announced_) {
    event.reason = placement_reason_;
    event.after_loss = n_losses_ > 0;
    if (moved_) absl::StrAppend(&event.reason, "; asked before: ", move_reason_);
  } else {
    const bool same_text = worker_class_ == numerics_class_ && worker_invariant_ && invariant_;
    event.kind = members_lost_                  ? SessionPlacement::Kind::kMembersLost
                 : same_text || received() == 0 ? SessionPlacement::Kind::kResumed
                                                : SessionPlacement::Kind::kResumedOtherNumerics;
    event.reason = move_reason_;
  }
  announced_ = true;
  moved_ = members_lost_ = false;
  numerics_class_ = worker_class_;
  invariant_ = worker_invariant_;
  listener_->OnPlaced(event);
  if (reattached_) ReportReattachedLocked();
}

void Session::ReportReattachedLocked() {
  listener_->OnPlaced({SessionPlacement::Kind::kReattached, worker_,
                       "the connection broke and was taken up again", worker_class_});
}

void Session::EndLocked(const SessionEnd& end) {
  DropAttemptLocked();
  timers_->Cancel(timer_);
  // Held until the call returns: it may own the last reference to us.
  const std::shared_ptr<SessionListener> listener = std::move(listener_);
  listener_ = nullptr;
  listener->OnEnd(end);
}

void Session::Acknowledge(uint32_t n) {
  MutexLock lock(&mutex_);
  acknowledged_ += n;
  if (link_ == nullptr) return;
  const uint32_t until = acknowledged_ + options_.window_tokens;
  // In halves of the window: a grant per token would double the messages.
  if (until < granted_until_ + std::max<uint32_t>(1, options_.window_tokens / 2)) return;
  const uint32_t more = until - granted_until_;
  granted_until_ = until;
  link_->Grant(sequence_id_, more);
}

void Session::Cancel() {
  std::shared_ptr<SessionListener> listener;  // released after the lock
  MutexLock lock(&mutex_);
  listener = std::move(listener_);
  listener_ = nullptr;
  DropAttemptLocked();
  timers_->Cancel(timer_);
}

void Session::OnWorkerSuspect(uint64_t sequence_id) {
  MutexLock lock(&mutex_);
  if (listener_ == nullptr || link_ == nullptr || sequence_id != sequence_id_) return;
  // Where the answer would go on: by the time the verdict is out the adapter is there.
  DescribePlacementLocked();
  PlacementRequest elsewhere = placement_;
  elsewhere.exclude.insert(worker_);
  pool_->Prefetch(elsewhere);
}

void Session::OnReattached(uint64_t sequence_id) {
  MutexLock lock(&mutex_);
  if (listener_ == nullptr || link_ == nullptr || sequence_id != sequence_id_) return;
  reattached_ = true;
  request_.trace.Event(attempt_span_, "re-attached");
  if (started_) ReportReattachedLocked();  // else with the placement
}

void Session::OnWorkerLost(uint64_t sequence_id, const WorkerLoss& loss) {
  MutexLock lock(&mutex_);
  if (listener_ == nullptr || link_ == nullptr || sequence_id != sequence_id_) return;
  MoveLocked(loss);
}

void Session::OnOutput(SequenceOutput output) {
  MutexLock lock(&mutex_);
  if (listener_ == nullptr || link_ == nullptr || output.sequence_id != sequence_id_) return;
  if (output.finish == FinishReason::kError) return HandleErrorLocked(output);
  if (!started_) {
    started_ = true;
    if (request_.trace) {
      request_.trace.Event(attempt_span_, "started",
                           {{"coterie.queued_ms", absl::ToInt64Milliseconds(output.queued)},
                            {"coterie.cached_tokens", output.cached_prompt_tokens}});
    }
    refusal_ = adapter_error_ = absl::OkStatus();
    placement_.exclude.clear();
    n_refusals_ = 0;
    waits_since_ = MonotonicTime::InfiniteFuture();
    poll_.Reset();
    AnnounceLocked();
    listener_->OnStarted(output.cached_prompt_tokens, output.queued);
  }
  if (!output.prompt_logprobs.empty()) listener_->OnPromptLogprobs(std::move(output.prompt_logprobs));
  TakeTokensLocked(output);
  if (listener_ == nullptr || link_ == nullptr || output.finish == FinishReason::kNone) return;
  EndLocked({absl::OkStatus(), output.finish, output.stop_token_id, worker_, worker_class_});
}

void Session::TakeTokensLocked(SequenceOutput& output) {
  if (output.token_ids.empty()) return;
  if (output.position > received()) {
    return MoveLocked({absl::InternalError(
        absl::StrCat("worker ", worker_, " skipped from token ", received(), " to ", output.position))});
  }
  const size_t n_old = std::min<size_t>(received() - output.position, output.token_ids.size());
  const std::span<const int32_t> fresh = std::span(output.token_ids).subspan(n_old);
  if (fresh.empty()) return;
  request_.resume_ids.insert(request_.resume_ids.end(), fresh.begin(), fresh.end());
  if (output.logprobs.size() == output.token_ids.size()) {
    output.logprobs.erase(output.logprobs.begin(), output.logprobs.begin() + static_cast<ptrdiff_t>(n_old));
  } else {
    output.logprobs.clear();
  }
  if (listener_->OnTokens(fresh, std::move(output.logprobs))) return;
  DropAttemptLocked();
  listener_ = nullptr;
}

bool Session::IsAdapterErrorLocked(const Status& error) const {
  if (FailedAdapter(error)) return true;
  // Older workers do not mark them; before the first output these codes come from nothing else.
  return !started_ && !reattached_ && !request_.adapters.empty() &&
         (absl::IsNotFound(error) || absl::IsDataLoss(error) || absl::IsInternal(error));
}

void Session::HandleErrorLocked(const SequenceOutput& output) {
  const Status& error = output.error;
  CloseAttemptLocked(error);
  const std::string at_fault = WorkerAtFaultLocked(error);
  if (IsAdapterErrorLocked(error)) {
    adapter_error_ = Annotate(error, absl::StrCat("worker ", at_fault));
    return TryAnotherLocked(at_fault);
  }
  if (absl::IsResourceExhausted(error) && !started_) {  // its queue is full; others may have room
    refusal_ = error;
    return TryAnotherLocked(at_fault);
  }
  switch (error.code()) {
    case absl::StatusCode::kResourceExhausted:
    case absl::StatusCode::kUnavailable:  // draining, or losing its device
    case absl::StatusCode::kAborted:
      placement_.exclude.insert(at_fault);
      return MoveLocked({error, output.worker_drains});
    case absl::StatusCode::kNotFound:
      if (!reattached_) break;
      return MoveLocked(
          {absl::UnavailableError(absl::StrCat("worker ", worker_, " had forgotten the answer"))});
    default:
      break;
  }
  EndLocked({Annotate(error, absl::StrCat("worker ", worker_)), FinishReason::kError, std::nullopt, worker_,
             worker_class_});
}

}  // namespace coterie::gateway
