#include <algorithm>

#include "router/policies.h"

namespace coterie::router_internal {
namespace {

// One expert where the margin is confident, otherwise the smallest set whose share of the c-BTM mass of all
// allowed experts reaches `mass`, at most max_k.
class AdaptiveKPolicy : public RoutingPolicy {
 public:
  AdaptiveKPolicy(size_t max_k, float temperature, float confident_margin, float mass)
      : max_k_(max_k), temperature_(temperature), confident_margin_(confident_margin), mass_(mass) {}

  StatusOr<RoutePlan> Route(const ExpertIndex& index, const RouteQuery& query) const override {
    ASSIGN_OR_RETURN(auto hits, index.ScoreAll(query.embedding, query.allowed));
    if (hits.empty()) return NothingToRank("adaptive_k", index, query);
    const size_t n_ranked = std::min(hits.size(), std::max({query.max_candidates, max_k_, size_t{2}}));
    std::partial_sort(hits.begin(), hits.begin() + n_ranked, hits.end(), ExpertIndex::Better);
    const auto ranked = std::span<const ExpertIndex::Hit>(hits).first(n_ranked);
    RoutePlan plan = StartPlan("adaptive_k", index, ranked, query.max_candidates);
    if (plan.margin >= confident_margin_) {
      AddExpert(index, ranked[0], 1.0f, &plan);
      plan.reason = absl::StrCat(RankingInWords(index, plan, ranked), ", confident from ",
                                 TwoDecimals(confident_margin_));
      return plan;
    }
    const std::vector<float> shares = CbtmWeights(hits, temperature_);
    size_t k = 0;
    float reached = 0;
    while (k < std::min(max_k_, ranked.size()) && reached < mass_) reached += shares[k++];
    for (size_t i = 0; i < k; ++i) AddExpert(index, ranked[i], shares[i] / reached, &plan);
    plan.reason =
        absl::StrCat("adaptive_k: margin ", TwoDecimals(plan.margin), " below ",
                     TwoDecimals(confident_margin_), ", ", k, k == 1 ? " expert holds " : " experts hold ",
                     TwoDecimals(reached), " of the mass (want ", TwoDecimals(mass_), "):");
    for (const PlannedExpert& expert : plan.experts) {
      absl::StrAppend(&plan.reason, " ", expert.name, " ", TwoDecimals(expert.score), " (weight ",
                      TwoDecimals(expert.weight), ")");
    }
    return plan;
  }

 private:
  const size_t max_k_;
  const float temperature_;
  const float confident_margin_;
  const float mass_;
};

}  // namespace

std::unique_ptr<const RoutingPolicy> MakeAdaptiveKPolicy(size_t max_k, float temperature,
                                                         float confident_margin, float mass) {
  return std::make_unique<AdaptiveKPolicy>(max_k, temperature, confident_margin, mass);
}

}  // namespace coterie::router_internal
