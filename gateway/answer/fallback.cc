#include "gateway/answer/fallback.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_join.h"
#include "common/adapter_failure.h"
#include "router/routing_policy.h"

namespace coterie::gateway {
namespace {

// Experts tried before the base: each costs the asker a round of workers.
constexpr int kMaxTries = 3;

bool HasCanary(const Decision& decision) {
  const auto named = decision.plan.named();
  return std::any_of(named.begin(), named.end(), [](const PlannedExpert& expert) { return expert.canary; });
}

// The experts whose adapter it was: the one that the error names, or any of the plan; a composite expert for
// all its members.
std::vector<const PlannedExpert*> Blamed(const Decision& decision, const Status& why) {
  const std::optional<Digest> adapter = FailedAdapter(why);
  std::vector<const PlannedExpert*> blamed;
  for (const PlannedExpert& expert : decision.plan.named()) {
    if (adapter && expert.adapter == *adapter) return {&expert};
    blamed.push_back(&expert);
  }
  return blamed;
}

}  // namespace

std::unique_ptr<Fallback> Fallback::For(const ExpertSelector& asked, const RoutingAsk& routing,
                                        Prepared* prepared, const Decision& decision,
                                        const SequenceRequest& sequence) {
  if (decision.plan.experts.empty()) return nullptr;
  if (asked.kind != ExpertSelector::Kind::kAuto && !HasCanary(decision)) return nullptr;
  std::unique_ptr<Fallback> fallback(new Fallback());
  fallback->asked_ = asked;
  fallback->routing_ = routing;
  fallback->router_ = std::move(prepared->router);
  fallback->embedding_ = std::move(prepared->embedding);
  fallback->sequence_ = sequence;
  return fallback;
}

std::optional<Decision> Fallback::Next(const Decision& failed, const Status& why) {
  names_.clear();
  if (failed.plan.experts.empty()) return std::nullopt;
  const std::vector<const PlannedExpert*> blamed = Blamed(failed, why);
  const bool is_canary =
      std::any_of(blamed.begin(), blamed.end(), [](const PlannedExpert* expert) { return expert->canary; });
  if (!is_canary && asked_.kind != ExpertSelector::Kind::kAuto) return std::nullopt;
  for (const PlannedExpert* expert : blamed) names_.push_back(expert->name);
  // The code alone: the words of a worker are for its operator, who finds them in the log.
  absl::StrAppend(&words_, words_.empty() ? "" : ", ", is_canary ? "the canary of " : "",
                  absl::StrJoin(names_, " and "), " (", absl::StatusCodeToString(why.code()), ")");
  if (is_canary) {
    routing_.canary_key.clear();
  } else {
    routing_.without.insert(routing_.without.end(), names_.begin(), names_.end());
  }
  StatusOr<Decision> next = absl::NotFoundError("tried enough");
  if (++n_tries_ <= kMaxTries) next = router_->Decide(asked_, routing_, embedding_);
  Decision decision;
  if (next.ok()) {
    decision = *std::move(next);
  } else {
    decision.plan = PlanForBase(failed.plan.catalogue_generation);
    decision.plan.reason = "the base";
    decision.candidates = failed.candidates;
  }
  decision.plan.reason = absl::StrCat("no worker could load ", words_, "; instead ", decision.plan.reason);
  decision.embed_seconds = failed.embed_seconds;
  decision.search_seconds = failed.search_seconds;
  return decision;
}

}  // namespace coterie::gateway
