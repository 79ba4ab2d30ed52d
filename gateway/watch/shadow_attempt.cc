#include "gateway/watch/shadow_attempt.h"

#include <utility>

#include "common/clock.h"

namespace coterie::gateway {
namespace {

constexpr int32_t kLowestPriority = -100;

}  // namespace

std::shared_ptr<ShadowAttempt> ShadowAttempt::Start(const GatewayCore* core,
                                                    const std::vector<int32_t>& prompt_ids, size_t from,
                                                    const PlacementRequest::Adapter& adapter,
                                                    MonotonicTime deadline) {
  std::shared_ptr<ShadowAttempt> attempt(new ShadowAttempt(prompt_ids.size() - from));
  SequenceRequest sequence;
  sequence.prompt_ids = prompt_ids;
  sequence.score_only = true;
  sequence.prompt_logprobs_from = static_cast<uint32_t>(from);
  sequence.sampling.max_tokens = 1;
  sequence.sampling.seed = 0;
  sequence.sampling.logprobs = 0;
  sequence.tenant = "shadow";
  sequence.priority = kLowestPriority;
  sequence.deadline = deadline;
  PlacementRequest placement;
  placement.base = core->text->base();
  if (!adapter.digest.empty()) {
    sequence.adapters.push_back({adapter.digest, 1.0f, adapter.name});
    placement.adapters.push_back(adapter);
  }
  SessionOptions options = core->session;
  options.max_moves = 0;
  options.worker_wait = absl::ZeroDuration();
  auto session = Session::Start(options, core->workers, core->timers, std::move(sequence),
                                std::move(placement), {}, attempt);
  MutexLock lock(&attempt->mutex_);
  if (!attempt->done_) attempt->session_ = std::move(session);
  return attempt;
}

void ShadowAttempt::GiveUp() {
  std::shared_ptr<Session> session;  // its lock comes before ours
  {
    MutexLock lock(&mutex_);
    if (done_) return;
    done_ = true;
    outcome_ = absl::CancelledError("given up for requests that wait");
    session = std::move(session_);
    ended_.SignalAll();
  }
  if (session != nullptr) session->Cancel();
}

bool ShadowAttempt::WaitFor(absl::Duration timeout) {
  const MonotonicTime until = MonotonicNow() + timeout;
  MutexLock lock(&mutex_);
  while (!done_ && MonotonicNow() < until) ended_.WaitUntil(&mutex_, until);
  return done_;
}

StatusOr<double> ShadowAttempt::loss() const {
  MutexLock lock(&mutex_);
  if (!done_) return absl::UnavailableError("not scored yet");
  RETURN_IF_ERROR(outcome_);
  if (n_scored_ != n_expected_) {
    return absl::InternalError(absl::StrCat("the worker scored ", n_scored_, " tokens of ", n_expected_));
  }
  return -total_logprob_ / static_cast<double>(n_scored_);
}

void ShadowAttempt::OnPromptLogprobs(std::vector<PositionLogprobs>&& logprobs) {
  MutexLock lock(&mutex_);
  n_scored_ += logprobs.size();
  for (const PositionLogprobs& position : logprobs) total_logprob_ += position.chosen.logprob;
}

void ShadowAttempt::OnPromptLogprobsVoid() {
  MutexLock lock(&mutex_);
  n_scored_ = 0;
  total_logprob_ = 0;
}

void ShadowAttempt::OnEnd(const SessionEnd& end) {
  MutexLock lock(&mutex_);
  if (done_) return;
  done_ = true;
  outcome_ = end.status;
  if (outcome_.ok() && end.finish == FinishReason::kDeadline) {
    outcome_ = absl::DeadlineExceededError("not scored in time");
  }
  ended_.SignalAll();
}

}  // namespace coterie::gateway
