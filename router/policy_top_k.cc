#include <algorithm>

#include "router/mixture_weights.h"
#include "router/policies.h"

namespace coterie::router_internal {
namespace {

// The k nearest experts, weighted (c-BTM, Gururangan et al. 2023). The softmax over all experts, cut to the
// best k and renormalised, is the softmax over those k.
class TopKPolicy : public RoutingPolicy {
 public:
  TopKPolicy(size_t top_k, float temperature) : top_k_(top_k), temperature_(temperature) {}

  StatusOr<RoutePlan> Route(const ExpertIndex& index, const RouteQuery& query) const override {
    const size_t n_ranked = std::max({query.max_candidates, top_k_, size_t{2}});
    ASSIGN_OR_RETURN(const auto ranked, index.Search(query.embedding, n_ranked, query.allowed));
    if (ranked.empty()) return NothingToRank("top_k", index, query);
    RoutePlan plan = StartPlan("top_k", index, ranked, query.max_candidates);
    const auto chosen = std::span(ranked).first(std::min(top_k_, ranked.size()));
    const std::vector<float> weights = RoundWeights(SoftmaxOfScores(chosen, temperature_));
    plan.reason = "top_k:";
    for (size_t i = 0; i < chosen.size(); ++i) {
      AddExpert(index, chosen[i], weights[i], &plan);
      absl::StrAppend(&plan.reason, " ", ToAbsl(index.expert(chosen[i].expert).name), " ",
                      TwoDecimals(chosen[i].score), " (weight ", TwoDecimals(weights[i]), "),");
    }
    absl::StrAppend(&plan.reason, " margin ", TwoDecimals(plan.margin));
    return plan;
  }

 private:
  const size_t top_k_;
  const float temperature_;
};

}  // namespace

std::unique_ptr<const RoutingPolicy> MakeTopKPolicy(size_t top_k, float temperature) {
  return std::make_unique<TopKPolicy>(top_k, temperature);
}

}  // namespace coterie::router_internal
