#ifndef COTERIE_GATEWAY_ANSWER_PROMPT_SCORES_H_
#define COTERIE_GATEWAY_ANSWER_PROMPT_SCORES_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "common/status.h"
#include "gateway/answer/events.h"
#include "gateway/text/text_model.h"

namespace coterie::gateway {

// Collects the log-probabilities of a prompt's tokens as a worker tells them, from one position on. Another
// worker that takes the sequence over begins anew.
class PromptScores {
 public:
  // `from` ≥ 1: nothing stands before the first token. `text` outlives this.
  PromptScores(const TextModel* text, std::span<const int32_t> ids, size_t from);

  void Append(std::vector<PositionLogprobs>&& logprobs);
  void Clear();
  // Internal, naming the worker that told other ones than it was asked for.
  Status CheckWhole(std::string_view worker) const;
  std::vector<TextLogprobs> Take() { return std::move(scored_); }
  double total() const { return total_; }

 private:
  const TextModel* const text_;
  const std::vector<int32_t> unscored_;  // those before the first that is scored
  const size_t n_expected_;
  std::unique_ptr<TextStream> stream_;  // behind what was scored
  std::vector<TextLogprobs> scored_;
  double total_ = 0;
};

}  // namespace coterie::gateway

#endif  // COTERIE_GATEWAY_ANSWER_PROMPT_SCORES_H_
