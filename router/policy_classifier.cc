#include <algorithm>
#include <cmath>

#include "router/policies.h"

namespace coterie::router_internal {
namespace {

// The most probable class of a multinomial logistic regression.
class ClassifierPolicy : public RoutingPolicy {
 public:
  explicit ClassifierPolicy(ClassifierWeights weights) : weights_(std::move(weights)) {}

  StatusOr<RoutePlan> Route(const ExpertIndex& index, const RouteQuery& query) const override {
    const size_t n_classes = weights_.classes.size();
    const size_t dim = weights_.weights.size() / n_classes;
    if (dim != index.dim()) {
      return absl::InvalidArgumentError(
          absl::StrCat("classifier of dimension ", dim, ", the expert index has ", index.dim()));
    }
    RETURN_IF_ERROR(index.CheckQuery(query.embedding));
    std::vector<ExpertIndex::Hit> hits;  // score: the logit, then the probability
    for (size_t c = 0; c < n_classes; ++c) {
      const auto expert = index.Find(weights_.classes[c]);
      if (!expert.has_value() || (query.allowed != nullptr && !query.allowed->Test(*expert))) continue;
      float logit = weights_.bias[c];
      for (size_t i = 0; i < dim; ++i) logit += weights_.weights[c * dim + i] * query.embedding[i];
      if (!std::isfinite(logit)) {
        return absl::FailedPreconditionError(absl::StrCat(
            "the routing classifier's value for class ", weights_.classes[c],
            " is not a finite number: its weights are too large; train it again or route by prototypes"));
      }
      hits.push_back({*expert, logit});
    }
    if (hits.empty()) return NothingToRank("classifier", index, query);
    std::sort(hits.begin(), hits.end(), ExpertIndex::Better);
    double sum = 0;
    const float best = hits[0].score;
    for (const auto& hit : hits) sum += std::exp(static_cast<double>(hit.score - best));
    for (auto& hit : hits)
      hit.score = static_cast<float>(std::exp(static_cast<double>(hit.score - best)) / sum);
    RoutePlan plan = StartPlan("classifier", index, hits, query.max_candidates);
    AddExpert(index, hits[0], 1.0f, &plan);
    plan.reason = RankingInWords(index, plan, hits);
    return plan;
  }

 private:
  const ClassifierWeights weights_;
};

}  // namespace

std::unique_ptr<const RoutingPolicy> MakeClassifierPolicy(ClassifierWeights weights) {
  return std::make_unique<ClassifierPolicy>(std::move(weights));
}

}  // namespace coterie::router_internal
