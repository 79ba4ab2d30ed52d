#ifndef COTERIE_GATEWAY_ANSWER_SCORING_H_
#define COTERIE_GATEWAY_ANSWER_SCORING_H_

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "common/clock.h"
#include "gateway/answer/events.h"
#include "gateway/answer/prompt_scores.h"
#include "gateway/answer/task.h"

namespace coterie::gateway {

struct ScoreRequest {
  TextInput input;  // may be empty: the completion alone is scored, from its second token on
  std::string completion;
  ExpertSelector expert;
  RoutingAsk routing;
  RequestContext context;
  uint32_t top_logprobs = 0;
  bool include_input = false;
  MonotonicTime deadline = MonotonicTime::InfiniteFuture();
};

struct ScoreResult {
  RouteEvent route;
  std::vector<TextLogprobs> tokens;
  double total_logprob = 0;
  UsageCount usage;
  std::string numerics_class;
};

// Log-probabilities of given tokens under an expert: a sequence that generates nothing.
class Scoring final : public Task {
 public:
  using Callback = std::function<void(StatusOr<ScoreResult>)>;
  // The request has been validated. `done` is called once, unless Cancel comes first; it must not wait.
  static std::shared_ptr<Scoring> Create(const GatewayCore* core, ScoreRequest request, Callback done);

 private:
  Scoring(const GatewayCore* core, ScoreRequest request, Callback done);

  PreparationRequest DescribePreparation() override;
  const ExpertSelector& AskedExpert() const override { return request_.expert; }
  const RoutingAsk& AskedRouting() const override { return request_.routing; }
  Status FillSequence(const Prepared& prepared, SequenceRequest* sequence) override
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void OnPlacedLocked(const SessionPlacement& placement) override ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void OnPromptLogprobsLocked(std::vector<PositionLogprobs>&& logprobs) override
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void OnPromptLogprobsVoidLocked() override ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void SessionFinished(const SessionEnd& end) override ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Ended(const Status& status) override ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  ScoreRequest request_;
  Callback done_callback_;
  ScoreResult result_;
  std::optional<PromptScores> scores_;  // from FillSequence on
};

}  // namespace coterie::gateway

#endif  // COTERIE_GATEWAY_ANSWER_SCORING_H_
