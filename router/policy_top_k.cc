#include <algorithm>

#include "common/member_weights.h"
#include "router/mixture_weights.h"
#include "router/policies.h"

namespace coterie::router_internal {
namespace {

// The k nearest experts with c-BTM's weights (Gururangan et al. 2023). The softmax over all experts, cut to
// the best k and renormalised, is the softmax over those k. As a mixture, tokens are drawn from the weighted
// sum of their distributions, as in c-BTM; as a blend, one row runs under the weighted sum of their LoRA
// products, which costs one row and is another thing.
class TopKPolicy : public RoutingPolicy {
 public:
  TopKPolicy(CollaborationMode mode, size_t top_k, float temperature)
      : mode_(mode),
        name_(mode == CollaborationMode::kMixture ? "mixture" : "top_k"),
        top_k_(top_k),
        temperature_(temperature) {}

  StatusOr<RoutePlan> Route(const ExpertIndex& index, const RouteQuery& query) const override {
    const size_t k = query.k > 0 ? query.k : top_k_;
    const size_t n_ranked = std::max({query.max_candidates, k, size_t{2}});
    ASSIGN_OR_RETURN(const auto ranked, index.Search(query.embedding, n_ranked, query.allowed));
    if (ranked.empty()) return NothingToRank(name_, index, query);
    RoutePlan plan = StartPlan(name_, index, ranked, query.max_candidates);
    const auto chosen = std::span(ranked).first(std::min(k, ranked.size()));
    const std::vector<float> weights = RoundWeights(SoftmaxOfScores(chosen, temperature_));
    plan.reason = name_ + ":";
    for (size_t i = 0; i < chosen.size(); ++i) {
      AddExpert(index, chosen[i], weights[i], &plan);
      absl::StrAppend(&plan.reason, " ", ToAbsl(index.expert(chosen[i].expert).name), " ",
                      TwoDecimals(chosen[i].score), " (weight ", TwoDecimals(weights[i]), "),");
    }
    SetMode(mode_, &plan);
    absl::StrAppend(&plan.reason, " margin ", TwoDecimals(plan.margin));
    return plan;
  }

 private:
  const CollaborationMode mode_;
  const std::string name_;
  const size_t top_k_;
  const float temperature_;
};

}  // namespace

std::unique_ptr<const RoutingPolicy> MakeTopKPolicy(CollaborationMode mode, size_t top_k, float temperature) {
  return std::make_unique<TopKPolicy>(mode, top_k, temperature);
}

}  // namespace coterie::router_internal
