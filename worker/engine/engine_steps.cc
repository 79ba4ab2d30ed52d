// The engine's steps: planned and launched, collected, and what each row of logits means for its sequence.
#include <algorithm>

#include "common/check.h"
#include "worker/engine/engine.h"
#include "worker/engine/not_finite_status.h"
#include "worker/engine/sequence.h"

namespace coterie {

bool Engine::LaunchStep(MonotonicTime now) {
  LaunchedStep& step = steps_[(n_launched_ + 1) % steps_.size()];
  failed_.clear();
  scheduler_->Plan(now, &step.plan, &failed_);
  for (FailedSequence& failure : failed_) {
    const FinishReason reason = failure.status.ok() ? FinishReason::kStop : FinishReason::kError;
    Finish(failure.sequence, reason, -1, std::move(failure.status));
  }
  if (step.plan.empty()) return !failed_.empty();

  stats_.steps_begun.fetch_add(1, std::memory_order_relaxed);
  const StatusOr<StepTicket> ticket = model_->Launch(batch_builder_.Build(step.plan, &step.rows));
  if (!ticket.ok()) {
    stats_.steps_begun.fetch_sub(1, std::memory_order_relaxed);
    if (absl::IsUnavailable(ticket.status())) {
      LoseDevice(ticket.status());
      return true;
    }
    for (const StepEntry& entry : step.plan) {
      Finish(entry.sequence, FinishReason::kError, -1, ticket.status());
    }
    return true;
  }
  step.ticket = *ticket;
  step.launched = now;
  ++n_launched_;
  for (const StepEntry& entry : step.plan) {
    entry.sequence->n_launched = entry.first + entry.n_tokens;
    ++entry.sequence->n_in_flight;
  }
  for (const StepRow& row : step.rows) {
    if (row.use == StepRow::Use::kScores) row.sequence->next_prompt_logprob = row.position + 2;
    if (row.use == StepRow::Use::kChooses) ++row.sequence->n_choosing;
  }
  return true;
}

void Engine::CollectStep() {
  const LaunchedStep& step = steps_[++n_collected_ % steps_.size()];
  const StatusOr<StepResult> result = model_->Collect(step.ticket);
  Land(step);
  bool has_prompts = false;
  if (result.ok()) {
    has_prompts = TakeResults(step, *result);
  } else if (absl::IsUnavailable(result.status())) {
    LoseDevice(result.status());
  } else {
    for (const StepEntry& entry : step.plan) {
      if (entry.sequence->state != SequenceState::kFinished) {
        Finish(entry.sequence, FinishReason::kError, -1, result.status());
      }
    }
  }
  RetireThoseThatLeft();

  NoteStepTime(step, has_prompts);
  ++pending_.steps;
  stats_.steps.fetch_add(1, std::memory_order_relaxed);
  PublishStats();
}

// The step is in flight no more.
void Engine::Land(const LaunchedStep& step) {
  for (const StepEntry& entry : step.plan) --entry.sequence->n_in_flight;
  for (const StepRow& row : step.rows) {
    row.sequence->n_choosing -= row.use == StepRow::Use::kChooses ? 1 : 0;
  }
}

// The steps still in flight are given up: to ask a lost device for them may take for ever.
void Engine::LoseDevice(const Status& why) {
  device_status_ = why;
  device_lost_.store(true, std::memory_order_release);
  while (n_collected_ < n_launched_) {
    const LaunchedStep& step = steps_[++n_collected_ % steps_.size()];
    Land(step);
  }
  while (!sequences_.empty()) Finish(sequences_.begin()->second.get(), FinishReason::kError, -1, why);
  pending_.device_lost = why;
}

void Engine::NoteStepTime(const LaunchedStep& step, bool has_prompts) {
  const MonotonicTime now = MonotonicNow();
  // Where steps overlap, a step's own time begins with the end of the one before.
  const absl::Duration time = now - std::max(step.launched, last_collected_);
  last_collected_ = now;
  stats_.step_seconds.Observe(absl::ToDoubleSeconds(time));
  if (!has_prompts) return;
  uint64_t n_tokens = 0;
  for (const StepEntry& entry : step.plan) n_tokens += static_cast<uint64_t>(entry.n_computed());
  stats_.prompt_step_tokens.fetch_add(n_tokens, std::memory_order_relaxed);
  stats_.prompt_step_nanos.fetch_add(static_cast<uint64_t>(absl::ToInt64Nanoseconds(time)),
                                     std::memory_order_relaxed);
}

bool Engine::TakeResults(const LaunchedStep& step, const StepResult& result) {
  COTERIE_CHECK_EQ(result.tokens.size(), step.rows.size()) << "rows that the model gave";
  uint64_t n_prompt_tokens = 0;
  std::span<const TokenLogprob> logprobs = result.logprobs;
  std::span<const float> logits = result.logits;
  size_t next_row = 0;
  for (const StepEntry& entry : step.plan) {
    Sequence* s = entry.sequence;
    int end = entry.first + entry.n_tokens;
    if (MaskWasLate(step, result, next_row, s)) {
      // Its last token is computed again, into the same place: a block that others share is never written to.
      s->n_launched = --end;
      s->mask_may_be_late = false;
      stats_.late_masks.fetch_add(1, std::memory_order_relaxed);
    }
    if (s->state != SequenceState::kFinished) {
      if (entry.n_tokens > 1 || end < s->n_tokens()) n_prompt_tokens += entry.n_computed();
      kv_.Commit(s, end);
    }
    for (; next_row < step.rows.size() && step.rows[next_row].sequence == s; ++next_row) {
      const StepRow& row = step.rows[next_row];
      const auto n = static_cast<size_t>(row.n_logprobs);
      if (row.tells_logits) {
        if (s->state != SequenceState::kFinished) TellLogits(step, next_row, logits);
        logits = logits.subspan(static_cast<size_t>(model_->info().vocab_size));
        continue;
      }
      // The sequence may have ended with a row before, or while the step was in flight.
      if (s->state != SequenceState::kFinished && row.use != StepRow::Use::kIsMixed) {
        TakeRow(row, result.tokens[next_row], logprobs.first(n));
      }
      logprobs = logprobs.subspan(n);
    }
  }
  COTERIE_CHECK(next_row == step.rows.size() && logprobs.empty()) << "rows that nobody asked for";
  stats_.prompt_tokens.fetch_add(n_prompt_tokens, std::memory_order_relaxed);
  return n_prompt_tokens > 0;
}

// Of the sequence's rows in the step, which begin at `row`, the last chooses.
bool Engine::MaskWasLate(const LaunchedStep& step, const StepResult& result, size_t row,
                         const Sequence* s) const {
  if (s->masks == nullptr) return false;
  for (; row < step.rows.size() && step.rows[row].sequence == s; ++row) {
    if (result.tokens[row] == kMaskIsLate) return true;
  }
  return false;
}

void Engine::TakeRow(const StepRow& row, int32_t token, std::span<const TokenLogprob> logprobs) {
  Sequence* s = row.sequence;
  if (row.use == StepRow::Use::kChooses) {
    if (token != kMaskIsLate) TakeToken(s, token, logprobs);
    return;
  }
  if (token == kNotFinite) return EndNotFinite(s, absl::StrCat("prompt position ", row.position + 1));
  Score(row, logprobs);
  if (s->request.score_only && row.position + 2 == s->n_prompt) {
    Finish(s, FinishReason::kStop, -1, absl::OkStatus());
  }
}

void Engine::TakeToken(Sequence* s, int32_t token, std::span<const TokenLogprob> logprobs) {
  if (token == kNotFinite) return EndNotFinite(s, absl::StrCat("answer position ", s->answer_position()));
  Choose(s, token, logprobs);
}

// Row `row` of the step is one of a gang's sequence; with its last one they are all told.
void Engine::TellLogits(const LaunchedStep& step, size_t row, std::span<const float> logits) {
  Sequence* s = step.rows[row].sequence;
  const auto vocab_size = static_cast<size_t>(model_->info().vocab_size);
  size_t n_before = 0;  // rows of the sequence
  while (n_before < row && step.rows[row - n_before - 1].sequence == s) ++n_before;
  std::copy_n(logits.begin(), vocab_size,
              s->gang_logits->begin() + static_cast<ptrdiff_t>(n_before * vocab_size));
  if (n_before + 1 < s->rows.size()) return;
  s->awaits_token = true;
  Emit(s, OutputEvent::Kind::kLogits)->position = s->answer_position();
}

void Engine::EndNotFinite(Sequence* s, const std::string& place) {
  stats_.not_finite.fetch_add(1, std::memory_order_relaxed);
  Finish(s, FinishReason::kError, -1, NotFiniteStatus(s->request, place));
}

void Engine::Score(const StepRow& row, std::span<const TokenLogprob> logprobs) {
  OutputEvent* event = Emit(row.sequence, OutputEvent::Kind::kPromptLogprob);
  event->position = static_cast<uint32_t>(row.position + 1);
  event->token = row.sequence->tokens[row.position + 1];
  Report(event, logprobs);
}

void Engine::Choose(Sequence* s, int32_t token, std::span<const TokenLogprob> logprobs) {
  const SamplingParams& params = s->request.sampling;
  const std::vector<int32_t>& eos = model_->info().eos_token_ids;
  const bool ends = (!params.ignore_eos && std::find(eos.begin(), eos.end(), token) != eos.end()) ||
                    std::find(params.stop_token_ids.begin(), params.stop_token_ids.end(),
                              static_cast<uint32_t>(token)) != params.stop_token_ids.end();
  if (ends) return Finish(s, FinishReason::kStop, token, absl::OkStatus());
  OutputEvent* event = Emit(s, OutputEvent::Kind::kToken);
  event->position = s->answer_position();
  event->token = token;
  Report(event, logprobs);
  if (s->times.first_token == MonotonicTime::InfiniteFuture()) s->times.first_token = MonotonicNow();
  s->tokens.push_back(token);
  if (s->credit > 0) --s->credit;  // it may have been taken back since the step was planned
  stats_.generated_tokens.fetch_add(1, std::memory_order_relaxed);
  if (s->n_tokens() >= s->max_total) return Finish(s, FinishReason::kLength, -1, absl::OkStatus());
  if (s->masks != nullptr) {
    s->mask_may_be_late = scheduler_options_.late_masks;
    masks_->Next(s->masks, token);
  }
}

void Engine::Finish(Sequence* s, FinishReason reason, int32_t stop_token, Status status) {
  OutputEvent* event = Emit(s, OutputEvent::Kind::kFinish);
  event->finish = reason;
  event->position = s->answer_position();
  event->token = stop_token;
  s->times.finished = MonotonicNow();
  s->finish = reason;
  s->error = status;
  event->status = std::move(status);
  scheduler_->Remove(s);
  auto found = sequences_.find(s->request.id);
  leaving_.push_back(std::move(found->second));
  sequences_.erase(found);
  n_live_.fetch_sub(1);
  RetireThoseThatLeft();
}

// A step in flight reads the blocks and adapters of its sequences, ended or not.
void Engine::RetireThoseThatLeft() {
  std::erase_if(leaving_, [this](std::unique_ptr<Sequence>& s) {
    if (s->n_in_flight > 0) return false;
    scheduler_->LetGo(s.get());
    pending_.retired.push_back(std::move(s));
    return true;
  });
}

void Engine::Report(OutputEvent* event, std::span<const TokenLogprob> logprobs) {
  event->logprobs_begin = static_cast<uint32_t>(pending_.logprobs.size());
  event->logprobs_count = static_cast<uint32_t>(logprobs.size());
  pending_.logprobs.insert(pending_.logprobs.end(), logprobs.begin(), logprobs.end());
}

OutputEvent* Engine::Emit(Sequence* s, OutputEvent::Kind kind) {
  OutputEvent& event = pending_.events.emplace_back();
  event.kind = kind;
  event.id = s->request.id;
  if (!s->reported && kind != OutputEvent::Kind::kLogits) {
    s->reported = true;
    event.first = true;
    event.cached_prompt_tokens = s->cached_prompt_tokens;
    event.queued_ms = s->queued_ms;
    event.waited_for_adapter = s->waited_for_adapter;
  }
  return &event;
}

}  // namespace coterie
