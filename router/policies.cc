#include "router/policies.h"

#include <algorithm>
#include <cmath>
#include <cstdio>

namespace coterie::router_internal {

std::string TwoDecimals(float value) {
  char text[32];
  std::snprintf(text, sizeof(text), "%.2f", static_cast<double>(value));
  return text;
}

RoutePlan StartPlan(std::string policy, const ExpertIndex& index, std::span<const ExpertIndex::Hit> ranked,
                    size_t max_candidates) {
  RoutePlan plan;
  plan.policy = std::move(policy);
  plan.catalogue_generation = index.generation();
  if (ranked.size() > 1) plan.margin = ranked[0].score - ranked[1].score;
  for (const ExpertIndex::Hit& hit : ranked.first(std::min(ranked.size(), max_candidates))) {
    plan.candidates.push_back({std::string(index.expert(hit.expert).name), hit.score});
  }
  return plan;
}

void AddExpert(const ExpertIndex& index, const ExpertIndex::Hit& hit, float weight, RoutePlan* plan) {
  if (weight == 0) return;  // so far behind that it would change nothing
  const KnownExpert expert = index.expert(hit.expert);
  plan->experts.push_back(
      {.name = std::string(expert.name), .adapter = expert.adapter, .weight = weight, .score = hit.score});
}

void SetMode(CollaborationMode mode, RoutePlan* plan) {
  plan->mode = plan->experts.size() > 1 ? mode : CollaborationMode::kNone;
}

std::string RankingInWords(const ExpertIndex& index, const RoutePlan& plan,
                           std::span<const ExpertIndex::Hit> ranked) {
  std::string words = absl::StrCat(plan.policy, ": ", ToAbsl(index.expert(ranked[0].expert).name), " ",
                                   TwoDecimals(ranked[0].score));
  if (ranked.size() == 1) return words + ", the only candidate";
  absl::StrAppend(&words, ", next ", ToAbsl(index.expert(ranked[1].expert).name), " ",
                  TwoDecimals(ranked[1].score), ", margin ", TwoDecimals(plan.margin));
  return words;
}

RoutePlan NothingToRank(std::string policy, const ExpertIndex& index, const RouteQuery& query) {
  RoutePlan plan = StartPlan(std::move(policy), index, {}, 0);
  plan.base = true;
  plan.reason = index.size() == 0 ? "base: the catalogue holds no experts"
                : query.allowed != nullptr
                    ? "base: no expert that this caller may use can be weighed"
                    : "base: no expert can be weighed (none has prototypes or a class)";
  return plan;
}

}  // namespace coterie::router_internal
