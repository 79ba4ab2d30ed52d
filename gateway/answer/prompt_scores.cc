#include "gateway/answer/prompt_scores.h"

#include <utility>

namespace coterie::gateway {

PromptScores::PromptScores(const TextModel* text, std::span<const int32_t> ids, size_t from)
    : text_(text),
      unscored_(ids.begin(), ids.begin() + static_cast<ptrdiff_t>(from)),
      n_expected_(ids.size() - from),
      stream_(text->NewStream(unscored_)) {}

void PromptScores::Append(std::vector<PositionLogprobs>&& logprobs) {
  for (PositionLogprobs& values : logprobs) {
    if (scored_.size() > n_expected_) return;  // CheckWhole says so
    total_ += values.chosen.logprob;
    const int32_t id = values.chosen.token;
    scored_.push_back(Describe(std::move(values), *text_, *stream_));
    stream_->Append(id);
  }
}

void PromptScores::Clear() {
  scored_.clear();
  total_ = 0;
  stream_ = text_->NewStream(unscored_);
}

Status PromptScores::CheckWhole(std::string_view worker) const {
  if (scored_.size() == n_expected_) return absl::OkStatus();
  return absl::InternalError(
      absl::StrCat("worker ", ToAbsl(worker), " scored ", scored_.size(), " tokens of ", n_expected_));
}

}  // namespace coterie::gateway
