#ifndef COTERIE_GATEWAY_ANSWER_GENERATION_H_
#define COTERIE_GATEWAY_ANSWER_GENERATION_H_

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "common/clock.h"
#include "gateway/answer/events.h"
#include "gateway/answer/prompt_scores.h"
#include "gateway/answer/task.h"
#include "model/text/stop_matcher.h"

namespace coterie::gateway {

// One answer: ids from the session become text, held against the stop strings, and go to the sink.
// Thread-safe.
class Generation final : public Task {
 public:
  // The request has been validated (CompleteRequest), but for its stop strings: InvalidArgument naming one
  // that cannot be looked for. The sink is held until the end.
  static StatusOr<std::shared_ptr<Generation>> Create(const GatewayCore* core, AnswerRequest request,
                                                      std::shared_ptr<AnswerSink> sink);
  // The client took `n_tokens` more.
  void Acknowledge(uint32_t n_tokens) { Task::Acknowledge(n_tokens); }
  // Ends it with an error from outside.
  void Fail(const Status& status) { Task::Fail(status); }
  ~Generation() override;

 private:
  Generation(const GatewayCore* core, AnswerRequest request, std::shared_ptr<const StopStrings> stops,
             std::shared_ptr<AnswerSink> sink);

  PreparationRequest DescribePreparation() override;
  const ExpertSelector& AskedExpert() const override { return request_.expert; }
  const RoutingAsk& AskedRouting() const override { return request_.routing; }
  Status FillSequence(const Prepared& prepared, SequenceRequest* sequence) override
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void OnPlacedLocked(const SessionPlacement& placement) override ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void OnPromptLogprobsLocked(std::vector<PositionLogprobs>&& logprobs) override
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void OnPromptLogprobsVoidLocked() override ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  bool OnTokensLocked(std::span<const int32_t> ids, std::vector<PositionLogprobs>&& logprobs) override
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void SessionFinished(const SessionEnd& end) override ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Ended(const Status& status) override ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  // What the request wants to know of its prompt.
  Status FillScoring(const Prepared& prepared, SequenceRequest* sequence)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Tells the prompt's scores, once. An error: the worker did not tell all.
  Status TellPrompt() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Finish(FinishReason reason, std::string stop) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  AnswerRequest request_;
  std::shared_ptr<AnswerSink> sink_;    // until Ended
  std::unique_ptr<TextStream> stream_;  // from FillSequence on: it goes on after the prompt
  std::optional<StopMatcher> stops_;
  DescribedToken first_prompt_token_;
  std::optional<PromptScores> prompt_scores_;  // from FillSequence on, until they were told
  uint64_t seed_ = 0;
  bool in_shadow_ = false;  // the prompt may be scored under other experts too
  uint32_t n_tokens_ = 0;
  MonotonicTime first_token_ = MonotonicTime::InfiniteFuture();
  std::string worker_;
  std::string numerics_class_;
};

}  // namespace coterie::gateway

#endif  // COTERIE_GATEWAY_ANSWER_GENERATION_H_
