#include "gateway/upstream/session.h"

#include <algorithm>
#include <utility>

#include "absl/time/clock.h"
#include "spdlog/spdlog.h"

namespace coterie::gateway {

std::shared_ptr<Session> Session::Start(const SessionOptions& options, WorkerPool* pool, TimerQueue* timers,
                                        SequenceRequest request, PlacementRequest placement,
                                        std::vector<uint64_t> prefix_keys,
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
                 PlacementRequest placement, std::vector<uint64_t> prefix_keys,
                 std::shared_ptr<SessionListener> listener)
    : options_(options),
      pool_(pool),
      timers_(timers),
      prefix_keys_(std::move(prefix_keys)),
      listener_(std::move(listener)),
      request_(std::move(request)),
      placement_(std::move(placement)) {}

void Session::DescribePlacementLocked() {
  placement_.n_prompt_tokens = static_cast<uint32_t>(request_.prompt_ids.size()) + received();
  placement_.max_new_tokens =
      request_.sampling.max_tokens - std::min(request_.sampling.max_tokens, received());
  placement_.numerics_class = numerics_class_;
}

void Session::PlaceLocked() {
  DescribePlacementLocked();
  while (true) {
    StatusOr<WorkerPool::Placed> placed = pool_->Place(placement_);
    if (!placed.ok()) return WaitForWorkerLocked(placed.status());
    const uint64_t id = pool_->NextSequenceId();
    const uint32_t until = std::max(acknowledged_ + options_.window_tokens, received());
    request_.credit = until - received();
    // Known before Submit returns: the first output may be quicker.
    link_ = placed->link;
    sequence_id_ = id;
    granted_until_ = until;
    started_ = false;
    reattached_ = false;
    const Status submitted = link_->Submit(id, request_, shared_from_this());
    if (!submitted.ok()) {
      placement_.exclude.insert(placed->placement.worker_id);
      link_.reset();
      continue;
    }
    SessionPlacement event;
    event.worker = placed->placement.worker_id;
    event.numerics_class = placed->numerics_class;
    if (!placed_once_) {
      event.reason = placed->placement.reason;
    } else {
      event.kind = placed->numerics_class == numerics_class_ || received() == 0
                       ? SessionPlacement::Kind::kResumed
                       : SessionPlacement::Kind::kResumedOtherNumerics;
      event.reason = move_reason_;
    }
    placed_once_ = true;
    worker_ = event.worker;
    numerics_class_ = placed->numerics_class;
    wait_until_ = absl::InfinitePast();
    listener_->OnPlaced(event);
    return;
  }
}

void Session::WaitForWorkerLocked(const Status& why) {
  const absl::Time now = absl::Now();
  if (wait_until_ == absl::InfinitePast()) wait_until_ = now + options_.worker_wait;
  // A full queue is an answer; a lost worker may come back.
  if (!refusal_.ok()) return EndLocked({refusal_});
  if (now >= std::min(wait_until_, request_.deadline)) {
    return EndLocked({absl::UnavailableError(absl::StrCat("no worker for the request within ",
                                                          absl::FormatDuration(options_.worker_wait), ": ",
                                                          why.message()))});
  }
  placement_.exclude.clear();
  timer_ = timers_->After(options_.worker_poll, [weak = weak_from_this()] {
    const auto self = std::static_pointer_cast<Session>(weak.lock());
    if (self == nullptr) return;
    MutexLock lock(&self->mutex_);
    if (self->listener_ != nullptr && self->link_ == nullptr) self->PlaceLocked();
  });
}

void Session::DropAttemptLocked() {
  if (link_ != nullptr) link_->Cancel(sequence_id_);
  link_.reset();
  sequence_id_ = 0;
}

void Session::MoveLocked(const Status& why) {
  DropAttemptLocked();
  if (moves_ >= options_.max_moves) {
    return EndLocked({absl::UnavailableError(absl::StrCat("the answer lost its worker ", moves_ + 1,
                                                          " times, the last time because ", why.message()))});
  }
  ++moves_;
  move_reason_ = std::string(why.message());
  if (request_.prompt_logprobs_from) listener_->OnPromptLogprobsVoid();
  if (!request_.score_only && received() >= request_.sampling.max_tokens) {
    // Only the word that it is finished was lost.
    return EndLocked({absl::OkStatus(), FinishReason::kLength, std::nullopt, worker_, numerics_class_});
  }
  PlaceLocked();
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
  listener_->OnPlaced({SessionPlacement::Kind::kReattached, worker_,
                       "the connection broke and was taken up again", numerics_class_});
}

void Session::OnWorkerLost(uint64_t sequence_id, const Status& why) {
  MutexLock lock(&mutex_);
  if (listener_ == nullptr || link_ == nullptr || sequence_id != sequence_id_) return;
  link_.reset();  // it has forgotten the sequence already
  MoveLocked(why);
}

void Session::OnOutput(SequenceOutput output) {
  MutexLock lock(&mutex_);
  if (listener_ == nullptr || link_ == nullptr || output.sequence_id != sequence_id_) return;
  if (output.finish == FinishReason::kError) return HandleErrorLocked(output.error);
  if (!started_) {
    started_ = true;
    refusal_ = absl::OkStatus();
    placement_.exclude.clear();
    listener_->OnStarted(output.cached_prompt_tokens, output.queued);
  }
  if (!output.prompt_logprobs.empty()) listener_->OnPromptLogprobs(std::move(output.prompt_logprobs));
  TakeTokensLocked(output);
  if (listener_ == nullptr || link_ == nullptr || output.finish == FinishReason::kNone) return;
  EndLocked({absl::OkStatus(), output.finish, output.stop_token_id, worker_, numerics_class_});
}

void Session::TakeTokensLocked(SequenceOutput& output) {
  if (output.token_ids.empty()) return;
  if (output.position > received()) {
    return MoveLocked(absl::InternalError(
        absl::StrCat("worker ", worker_, " skipped from token ", received(), " to ", output.position)));
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

void Session::HandleErrorLocked(const Status& error) {
  switch (error.code()) {
    case absl::StatusCode::kResourceExhausted:  // its queue is full; others may have room
      placement_.exclude.insert(worker_);
      refusal_ = error;
      link_.reset();
      move_reason_ = std::string(error.message());
      return PlaceLocked();
    case absl::StatusCode::kUnavailable:  // draining, or losing its device
    case absl::StatusCode::kAborted:
      placement_.exclude.insert(worker_);
      link_.reset();
      return MoveLocked(error);
    case absl::StatusCode::kNotFound:
      if (!reattached_) break;  // then it is the adapter that was not found
      link_.reset();
      return MoveLocked(
          absl::UnavailableError(absl::StrCat("worker ", worker_, " had forgotten the answer")));
    default:
      break;
  }
  link_.reset();
  EndLocked({Annotate(error, absl::StrCat("worker ", worker_)), FinishReason::kError, std::nullopt, worker_,
             numerics_class_});
}

}  // namespace coterie::gateway
