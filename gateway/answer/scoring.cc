#include "gateway/answer/scoring.h"

#include <algorithm>
#include <utility>

namespace coterie::gateway {

std::shared_ptr<Scoring> Scoring::Create(const GatewayCore* core, ScoreRequest request, Callback done) {
  return std::shared_ptr<Scoring>(new Scoring(core, std::move(request), std::move(done)));
}

Scoring::Scoring(const GatewayCore* core, ScoreRequest request, Callback done)
    : Task(core, "Score", request.context, request.deadline),
      request_(std::move(request)),
      done_callback_(std::move(done)) {}

PreparationRequest Scoring::DescribePreparation() {
  return {std::move(request_.input), request_.expert, request_.routing, std::move(request_.completion),
          false};
}

Status Scoring::FillSequence(const Prepared& prepared, SequenceRequest* sequence) {
  const size_t from = request_.include_input ? 1 : std::max<size_t>(1, prepared.n_input_ids);
  if (prepared.prompt_ids.size() <= from) {
    return absl::InvalidArgumentError(absl::StrCat("nothing to score: input and completion have ",
                                                   prepared.prompt_ids.size(), " tokens and the first ", from,
                                                   " have nothing before them or are not asked for"));
  }
  scores_.emplace(core_->text, prepared.prompt_ids, from);
  sequence->score_only = true;
  sequence->prompt_logprobs_from = static_cast<uint32_t>(from);
  sequence->sampling.max_tokens = 1;
  sequence->sampling.seed = 0;
  sequence->sampling.logprobs = request_.top_logprobs;
  return absl::OkStatus();
}

void Scoring::OnPlacedLocked(const SessionPlacement& placement) {
  result_.route = {decision_, placement.worker, placement.reason, placement.numerics_class};
  result_.numerics_class = placement.numerics_class;
}

void Scoring::OnPromptLogprobsLocked(std::vector<PositionLogprobs>&& logprobs) {
  scores_->Append(std::move(logprobs));
}

void Scoring::OnPromptLogprobsVoidLocked() { scores_->Clear(); }

void Scoring::SessionFinished(const SessionEnd& end) {
  if (const Status status = scores_->CheckWhole(end.worker); !status.ok()) return EndLocked(status);
  result_.total_logprob = scores_->total();
  result_.tokens = scores_->Take();
  result_.usage = {n_prompt_tokens_, cached_prompt_tokens_, 0};
  EndLocked(absl::OkStatus());
}

void Scoring::Ended(const Status& status) {
  if (status.ok()) {
    done_callback_(std::move(result_));
  } else {
    done_callback_(status);
  }
  done_callback_ = nullptr;
}

}  // namespace coterie::gateway
