#include "gateway/answer/task.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "absl/strings/str_join.h"
#include "common/clock.h"
#include "common/log/log.h"
#include "common/prefix_key.h"
#include "gateway/access/access_pass.h"
#include "gateway/access/retry_delay.h"
#include "gateway/answer/fallback_log.h"
#include "gateway/answer/request_log.h"

namespace coterie::gateway {

void Task::OnWaiting() {
  const ExpertSelector::Kind asked = AskedExpert().kind;
  if (asked != ExpertSelector::Kind::kNamed && asked != ExpertSelector::Kind::kMembers) return;
  // On the pool: the threads that carry the streams place nothing. A full one costs the hint.
  (void)core_->compute->Submit([self = Self()] {
    if (self->over_.is_set()) return;
    const StatusOr<Decision> decision =
        self->core_->routers->Current()->Decide(self->AskedExpert(), self->AskedRouting(), {});
    if (!decision.ok()) return;  // it is told when it is its turn
    Prefetch(*self->core_, PlacementOf(*decision));
  });
}

void Task::Run() {
  PreparationRequest request;
  {
    MutexLock lock(&mutex_);
    if (done_) return;
    request = DescribePreparation();
    request.cache_salt = context_.cache_salt;
    request.trace = trace_;
  }
  const Status status =
      Prepare(core_, std::move(request), over_,
              [self = Self()](StatusOr<Prepared> prepared) { self->PreparationDone(std::move(prepared)); });
  if (!status.ok()) Fail(WithRetryDelay(status, core_->admission->RetryDelayNow()));
}

void Task::PreparationDone(StatusOr<Prepared> prepared) {
  if (!prepared.ok()) return Fail(prepared.status());
  Plan plan;
  Status status;
  {
    MutexLock lock(&mutex_);
    if (done_) return;
    routed_ = MonotonicNow() - accepted_;
    n_prompt_tokens_ = static_cast<uint32_t>(prepared->prompt_ids.size());
    decision_ = std::move(prepared->decision);
    CountRoute();
    SequenceRequest sequence;
    status = FillSequence(*prepared, &sequence);
    sequence.tenant = context_.tenant;
    sequence.priority = context_.priority;
    sequence.trace_id = context_.trace_id;
    sequence.trace = trace_;
    sequence.cache_salt = context_.cache_salt;
    sequence.deadline = deadline_;
    sequence.prompt_ids = std::move(prepared->prompt_ids);
    submitted_ = MonotonicNow();
    if (status.ok()) {
      fallback_ = Fallback::For(AskedExpert(), AskedRouting(), &*prepared, decision_, sequence);
      plan = PlanLocked(std::move(sequence));
    }
  }
  if (!status.ok()) return Fail(status);
  StartSession(std::move(plan));
}

Task::Plan Task::PlanLocked(SequenceRequest sequence) {
  Plan plan;
  std::vector<PrefixAdapter> prefix_adapters;  // of the first row
  const bool mixture = decision_.plan.mode == CollaborationMode::kMixture;
  const bool gated = decision_.plan.mode == CollaborationMode::kGated;
  for (const PlannedExpert& expert : decision_.plan.experts) {
    // A member of a mixture is its expert in full, and shares the KV of that expert's own answers; under a
    // gate, the gate weighs it.
    const float weight = mixture || gated ? 1.0f : expert.weight;
    sequence.adapters.push_back({expert.adapter, weight, expert.name});
    if (mixture) sequence.mixture.push_back({1, expert.weight});
    if (!mixture || prefix_adapters.empty()) prefix_adapters.push_back({expert.adapter, weight});
  }
  sequence.gate = decision_.plan.gate;
  if (sequence.gate.kind == GateKind::kNoisy) sequence.gate.seed = sequence.sampling.seed.value_or(0);
  plan.placement = PlacementOf(decision_);
  plan.placement.base = core_->text->base();
  plan.placement.constrained = static_cast<bool>(sequence.sampling.constraint);
  plan.placement.seed = std::hash<std::string>()(context_.trace_id);
  PrefixHasher hasher;
  const PrefixHash root =
      hasher.Root(core_->text->base(), prefix_adapters, context_.cache_salt, sequence.gate);
  for (const PrefixHash& hash : hasher.Chain(root, sequence.prompt_ids)) {
    plan.prefix_keys.push_back(hash.wire_key());
  }
  plan.sequence = std::move(sequence);
  plan.options = core_->session;
  // Who can be answered otherwise need not wait until a file appears.
  if (fallback_ != nullptr) plan.options.adapter_wait = absl::ZeroDuration();
  return plan;
}

void Task::StartSession(Plan plan) {
  std::shared_ptr<Session> session =
      Session::Start(plan.options, core_->workers, core_->timers, std::move(plan.sequence),
                     std::move(plan.placement), std::move(plan.prefix_keys), Self());
  uint32_t acknowledged = 0;
  bool over = false;
  {
    MutexLock lock(&mutex_);
    over = done_;
    if (!over) session_ = session;
    acknowledged = std::exchange(unacknowledged_, 0);
  }
  if (over) return session->Cancel();
  if (acknowledged > 0) session->Acknowledge(acknowledged);
}

bool Task::FallBackLocked(const Status& why) {
  if (fallback_ == nullptr) return false;
  std::optional<Decision> next = fallback_->Next(decision_, why);
  if (!next) return false;
  const LogTrace line(context_.trace_id, trace_.root());
  for (const std::string& name : fallback_->names()) core_->metrics->experts.CountFallback(name);
  core_->fallback_log->Note(fallback_->names(), why, next->plan.reason, MonotonicNow());
  if (trace_) {
    trace_.Event(trace_.root(), "fallback",
                 {{"coterie.why", ToStd(why.message())}, {"coterie.reason", next->plan.reason}});
  }
  decision_ = *std::move(next);
  // Called by the old session, which holds its lock; a placement belongs on the pool in any case.
  const Status status = core_->workers->Later([self = Self()] {
    Plan plan;
    {
      MutexLock lock(&self->mutex_);
      if (self->done_) return;
      plan = self->PlanLocked(self->fallback_->sequence());
    }
    self->StartSession(std::move(plan));
  });
  return status.ok();
}

void Task::CountRoute() {
  if (decision_.candidates.empty()) return;  // asked for by name
  core_->metrics->router_score.Observe(decision_.candidates.front().score);
  core_->metrics->router_margin.Observe(decision_.plan.margin);
  if (decision_.plan.base) core_->metrics->abstained.Increment();
  core_->metrics->experts.CountRoute(decision_.candidates.front().name, decision_.candidates.front().score,
                                     decision_.plan.base);
}

void Task::CountExperts() {
  if (decision_.plan.experts.empty()) core_->metrics->experts.CountAnswer("base", false);
  for (const PlannedExpert& expert : decision_.plan.named()) {
    core_->metrics->experts.CountAnswer(expert.name, expert.canary);
  }
}

std::vector<std::string> Task::AnsweringLocked() const {
  if (decision_.plan.experts.empty()) return {"base"};
  std::vector<std::string> names;
  for (const PlannedExpert& expert : decision_.plan.named()) names.push_back(expert.name);
  return names;
}

void Task::OnClosedLocked() {
  if (trace_) {
    trace_.Note(trace_.root(), {"coterie.expert", absl::StrJoin(AnsweringLocked(), ",")});
    trace_.Note(trace_.root(), {"coterie.prompt_tokens", n_prompt_tokens_});
    trace_.Note(trace_.root(), {"coterie.cached_tokens", cached_prompt_tokens_});
    trace_.Note(trace_.root(), {"coterie.answer_tokens", n_generated_});
  }
  if (n_generated_ == 0) return;
  for (const std::string& expert : AnsweringLocked()) {
    core_->metrics->experts.CountTokens(expert, n_generated_);
  }
}

void Task::OnPlaced(const SessionPlacement& placement) {
  MutexLock lock(&mutex_);
  if (done_) return;
  if (placement.kind != SessionPlacement::Kind::kFirst) {
    const LogTrace line(context_.trace_id, trace_.root());
    core_->request_log->Moved(placement.worker, placement.reason, MonotonicNow());
  }
  switch (placement.kind) {
    case SessionPlacement::Kind::kFirst:
      CountExperts();
      if (placement.after_loss) core_->metrics->failovers_same_numerics.Increment();
      break;
    case SessionPlacement::Kind::kResumed:
      core_->metrics->failovers_same_numerics.Increment();
      break;
    case SessionPlacement::Kind::kResumedOtherNumerics:
      core_->metrics->failovers_other_numerics.Increment();
      break;
    case SessionPlacement::Kind::kMembersLost:
      core_->metrics->failovers_other_numerics.Increment();
      break;
    case SessionPlacement::Kind::kReattached:
      core_->metrics->reattachments.Increment();
      break;
  }
  OnPlacedLocked(placement);
}

void Task::OnStarted(uint32_t cached_prompt_tokens, absl::Duration queued) {
  MutexLock lock(&mutex_);
  if (done_) return;
  fallback_.reset();
  ticket_.Start();
  if (queued_ != absl::ZeroDuration()) return;  // after a move the first start counts
  cached_prompt_tokens_ = cached_prompt_tokens;
  queued_ = submitted_ - accepted_ + queued;
  core_->metrics->queue.Observe(absl::ToDoubleSeconds(queued_));
  core_->metrics->prompt_tokens.Increment(n_prompt_tokens_);
  if (context_.pass != nullptr) context_.pass->SpendTokens(n_prompt_tokens_);
  core_->metrics->cached_prompt_tokens.Increment(cached_prompt_tokens);
}

void Task::OnPromptLogprobs(std::vector<PositionLogprobs>&& logprobs) {
  MutexLock lock(&mutex_);
  if (!done_) OnPromptLogprobsLocked(std::move(logprobs));
}

void Task::OnPromptLogprobsVoid() {
  MutexLock lock(&mutex_);
  if (!done_) OnPromptLogprobsVoidLocked();
}

bool Task::OnTokens(std::span<const int32_t> ids, std::vector<PositionLogprobs>&& logprobs) {
  MutexLock lock(&mutex_);
  if (done_) return false;
  core_->metrics->generated_tokens.Increment(static_cast<double>(ids.size()));
  if (n_generated_ == 0) trace_.Event(trace_.root(), "first token");
  n_generated_ += ids.size();
  if (context_.pass != nullptr) context_.pass->SpendTokens(ids.size());
  return OnTokensLocked(ids, std::move(logprobs)) && CountUnreadLocked(ids.size());
}

void Task::OnEnd(const SessionEnd& end) {
  MutexLock lock(&mutex_);
  if (done_) return;
  if (!end.status.ok()) {
    if (end.adapter_failed && FallBackLocked(end.status)) return;
    Status status = end.status;
    // What does not fit into a worker's memory will not fit later.
    if (end.adapter_failed && absl::IsResourceExhausted(status)) {
      status = absl::FailedPreconditionError(status.message());
    }
    if (status.code() == absl::StatusCode::kResourceExhausted && !RetryDelay(status)) {
      status = WithRetryDelay(status, core_->admission->RetryDelayNow());
    }
    return EndLocked(status);
  }
  switch (end.finish) {
    case FinishReason::kDeadline:
      return EndLocked(absl::DeadlineExceededError(
          absl::StrCat("worker ", end.worker, " stopped the answer: the request's time was over")));
    case FinishReason::kCancelled:
      return EndLocked(absl::AbortedError(absl::StrCat("worker ", end.worker, " cancelled the answer")));
    default:
      return SessionFinished(end);
  }
}

bool Task::CountUnreadLocked(size_t n_tokens) {
  n_unread_ += static_cast<uint32_t>(n_tokens);
  // Credit is granted by halves of the window, so from here on it may be used up, and the worker goes on with
  // others.
  if (paused_ || n_unread_ <= core_->session.window_tokens / 2) return true;
  paused_ = true;
  const Status status = ticket_.Pause();
  if (!status.ok()) EndLocked(status);
  return status.ok();
}

void Task::Acknowledge(uint32_t n_tokens) {
  std::shared_ptr<Session> session;
  {
    MutexLock lock(&mutex_);
    if (done_) return;
    session = session_;
    if (session == nullptr) unacknowledged_ += n_tokens;
    n_unread_ -= std::min(n_unread_, n_tokens);
    if (paused_ && n_unread_ <= core_->session.window_tokens / 4) {
      paused_ = false;
      ticket_.Resume();
    }
  }
  if (session != nullptr) session->Acknowledge(n_tokens);
}

}  // namespace coterie::gateway
