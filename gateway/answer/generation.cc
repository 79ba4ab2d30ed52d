#include "gateway/answer/generation.h"

#include <algorithm>
#include <utility>

#include "common/clock.h"
#include "common/random.h"
#include "common/refused_field.h"
#include "gateway/routing/drift_watch.h"
#include "gateway/watch/shadow_traffic.h"

namespace coterie::gateway {

StatusOr<std::shared_ptr<Generation>> Generation::Create(const GatewayCore* core, AnswerRequest request,
                                                         std::shared_ptr<AnswerSink> sink) {
  std::shared_ptr<const StopStrings> stops;
  if (!request.sampling.stop.empty()) {
    StatusOr<std::shared_ptr<const StopStrings>> created = StopStrings::Create(request.sampling.stop);
    if (!created.ok()) return OfField(Annotate(created.status(), "sampling.stop"), "stop");
    stops = *std::move(created);
  }
  return std::shared_ptr<Generation>(
      new Generation(core, std::move(request), std::move(stops), std::move(sink)));
}

Generation::Generation(const GatewayCore* core, AnswerRequest request,
                       std::shared_ptr<const StopStrings> stops, std::shared_ptr<AnswerSink> sink)
    : Task(core, "Generate", request.context, request.deadline),
      request_(std::move(request)),
      sink_(std::move(sink)),
      seed_(request_.sampling.seed ? *request_.sampling.seed : DrawSeed()) {
  if (stops != nullptr) stops_.emplace(std::move(stops));
}

Generation::~Generation() = default;

PreparationRequest Generation::DescribePreparation() {
  in_shadow_ = core_->shadow != nullptr && request_.expert.kind == ExpertSelector::Kind::kAuto &&
               core_->shadow->Wants(context_);
  PreparationRequest preparation{std::move(request_.input), request_.expert, request_.routing, "", false};
  preparation.mark_question = in_shadow_;
  return preparation;
}

Status Generation::FillSequence(const Prepared& prepared, SequenceRequest* sequence) {
  const uint32_t context = core_->text->context_tokens();
  if (prepared.prompt_ids.empty()) return absl::InvalidArgumentError("the prompt has no tokens");
  if (prepared.prompt_ids.size() >= context) {
    return absl::InvalidArgumentError(
        absl::StrCat("the prompt has ", prepared.prompt_ids.size(),
                     " tokens and leaves no room for an answer: the model's context "
                     "holds ",
                     context));
  }
  stream_ = core_->text->NewStream(prepared.prompt_ids);
  sequence->sampling = request_.sampling;
  sequence->sampling.stop.clear();
  sequence->sampling.seed = seed_;
  const uint32_t room = context - static_cast<uint32_t>(prepared.prompt_ids.size());
  sequence->sampling.max_tokens = std::min(sequence->sampling.max_tokens, room);
  if (core_->limits.max_answer_tokens > 0) {
    sequence->sampling.max_tokens = std::min(sequence->sampling.max_tokens, core_->limits.max_answer_tokens);
  }
  RETURN_IF_ERROR(FillScoring(prepared, sequence));
  if (core_->drift != nullptr) core_->drift->Observe(decision_, core_->routers->Current()->catalogue());
  if (in_shadow_) {
    core_->shadow->Offer(decision_, prepared.prompt_ids, prepared.question_begin, prepared.question_end);
  }
  return absl::OkStatus();
}

Status Generation::FillScoring(const Prepared& prepared, SequenceRequest* sequence) {
  const std::vector<int32_t>& ids = prepared.prompt_ids;
  const uint32_t alternatives = request_.sampling.logprobs.value_or(0);
  const uint64_t limit = request_.max_prompt_logprobs;
  if (limit > 0) {
    const uint64_t n_values = uint64_t{ids.size()} * (1 + alternatives);
    if (n_values > limit) {
      return OfField(absl::InvalidArgumentError(absl::StrCat(
                         "logprobs of a prompt of ", ids.size(), " tokens with ", alternatives,
                         " alternatives are ", n_values, " values, at most ", limit, " are held")),
                     "logprobs");
    }
    first_prompt_token_ = Describe(ids[0], *core_->text, *core_->text->NewStream({}));
    prompt_scores_.emplace(core_->text, ids, 1);
  }
  if (request_.without_answer) sequence->sampling.max_tokens = 1;
  if (ids.size() == 1)
    return absl::OkStatus();  // nothing to score: the worker has to choose a token, for nobody
  sequence->score_only = request_.without_answer;
  if (limit > 0) {
    sequence->prompt_logprobs_from = 1;
  } else if (request_.without_answer) {
    sequence->prompt_logprobs_from = static_cast<uint32_t>(ids.size() - 1);
  }
  if (sequence->prompt_logprobs_from) sequence->sampling.logprobs = alternatives;
  return absl::OkStatus();
}

void Generation::OnPromptLogprobsLocked(std::vector<PositionLogprobs>&& logprobs) {
  if (prompt_scores_) prompt_scores_->Append(std::move(logprobs));
}

void Generation::OnPromptLogprobsVoidLocked() {
  if (prompt_scores_) prompt_scores_->Clear();
}

Status Generation::TellPrompt() {
  if (!prompt_scores_) return absl::OkStatus();
  RETURN_IF_ERROR(prompt_scores_->CheckWhole(worker_));
  sink_->OnEvent(PromptEvent{std::move(first_prompt_token_), prompt_scores_->Take()});
  prompt_scores_.reset();
  return absl::OkStatus();
}

void Generation::OnPlacedLocked(const SessionPlacement& placement) {
  worker_ = placement.worker;
  numerics_class_ = placement.numerics_class;
  if (placement.kind == SessionPlacement::Kind::kFirst) {
    sink_->OnEvent(RouteEvent{decision_, placement.worker, placement.reason, placement.numerics_class});
  } else {
    sink_->OnEvent(NoticeEvent{placement});
  }
}

bool Generation::OnTokensLocked(std::span<const int32_t> ids, std::vector<PositionLogprobs>&& logprobs) {
  if (const Status status = TellPrompt(); !status.ok()) {
    EndLocked(status);
    return false;
  }
  if (request_.without_answer) return true;
  if (n_tokens_ == 0) {
    first_token_ = MonotonicNow();
    core_->metrics->time_to_first_token.Observe(absl::ToDoubleSeconds(first_token_ - accepted_));
    for (const std::string& expert : AnsweringLocked()) {
      core_->metrics->experts.ObserveFirstToken(expert, first_token_ - accepted_);
    }
  }
  TextEvent event;
  for (size_t i = 0; i < ids.size(); ++i) {
    ++n_tokens_;
    event.token_ids.push_back(ids[i]);
    if (i < logprobs.size()) {
      event.logprobs.push_back(Describe(std::move(logprobs[i]), *core_->text, *stream_));
    }
    const std::string text = stream_->Append(ids[i]);
    event.text += stops_ ? stops_->Append(text) : text;
    if (!stops_ || !stops_->stopped()) continue;
    sink_->OnEvent(std::move(event));
    Finish(FinishReason::kStop, request_.sampling.stop[static_cast<size_t>(stops_->stop_index())]);
    return false;
  }
  sink_->OnEvent(std::move(event));
  return true;
}

void Generation::SessionFinished(const SessionEnd& end) {
  worker_ = end.worker;
  numerics_class_ = end.numerics_class;
  if (const Status status = TellPrompt(); !status.ok()) return EndLocked(status);
  if (request_.without_answer) return Finish(FinishReason::kLength, "");
  TextEvent rest;
  const std::string text = stream_->Flush();
  if (!stops_) {
    rest.text = text;
  } else {
    rest.text = stops_->Append(text);
    if (!stops_->stopped()) rest.text += stops_->Flush();
  }
  if (!rest.text.empty()) sink_->OnEvent(std::move(rest));
  if (stops_ && stops_->stopped()) {
    return Finish(FinishReason::kStop, request_.sampling.stop[static_cast<size_t>(stops_->stop_index())]);
  }
  Finish(end.finish, end.stop_token_id ? core_->text->TokenText(*end.stop_token_id) : "");
}

void Generation::Finish(FinishReason reason, std::string stop) {
  const MonotonicTime now = MonotonicNow();
  FinishEvent event;
  event.reason = reason;
  event.stop = std::move(stop);
  event.usage = {n_prompt_tokens_, cached_prompt_tokens_, n_tokens_};
  event.routed = routed_;
  event.queued = queued_;
  event.first_token = n_tokens_ > 0 ? first_token_ - accepted_ : absl::ZeroDuration();
  event.total = now - accepted_;
  event.seed = seed_;
  event.worker = worker_;
  event.numerics_class = numerics_class_;
  if (n_tokens_ > 1) {
    core_->metrics->time_per_output_token.Observe(absl::ToDoubleSeconds(now - first_token_) /
                                                  (n_tokens_ - 1));
  }
  trace_.Note(trace_.root(), {"coterie.finish", NameOf(reason)});
  sink_->OnEvent(std::move(event));
  EndLocked(absl::OkStatus());
}

void Generation::Ended(const Status& status) {
  const std::shared_ptr<AnswerSink> sink = std::move(sink_);
  sink->OnAnswerEnd(status);
}

}  // namespace coterie::gateway
