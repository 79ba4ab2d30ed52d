#include "router/policies.h"

namespace coterie::router_internal {
namespace {

class AbstainPolicy : public RoutingPolicy {
 public:
  AbstainPolicy(std::unique_ptr<const RoutingPolicy> inner, float min_score, float min_margin,
                bool expert_thresholds)
      : inner_(std::move(inner)),
        min_score_(min_score),
        min_margin_(min_margin),
        expert_thresholds_(expert_thresholds) {}

  StatusOr<RoutePlan> Route(const ExpertIndex& index, const RouteQuery& query) const override {
    ASSIGN_OR_RETURN(RoutePlan plan, inner_->Route(index, query));
    if (plan.base) return plan;
    const PlannedExpert best = plan.experts[0];
    float min_score = min_score_;
    if (expert_thresholds_) {
      const auto position = index.Find(best.name);
      if (position.has_value()) min_score = index.expert(*position).min_score.value_or(min_score_);
    }
    if (best.score < min_score) {
      Abstain(absl::StrCat("best score ", TwoDecimals(best.score), " (", best.name, ") below ",
                           TwoDecimals(min_score)),
              &plan);
    } else if (plan.margin < min_margin_) {
      Abstain(absl::StrCat("margin ", TwoDecimals(plan.margin), " (", best.name, " ", TwoDecimals(best.score),
                           ") below ", TwoDecimals(min_margin_)),
              &plan);
    }
    return plan;
  }

 private:
  static void Abstain(const std::string& why, RoutePlan* plan) {
    plan->base = true;
    plan->experts.clear();
    plan->mode = CollaborationMode::kNone;
    plan->reason = absl::StrCat("abstained: ", why);
  }

  const std::unique_ptr<const RoutingPolicy> inner_;
  const float min_score_;
  const float min_margin_;
  const bool expert_thresholds_;
};

}  // namespace

std::unique_ptr<const RoutingPolicy> MakeAbstainPolicy(std::unique_ptr<const RoutingPolicy> inner,
                                                       float min_score, float min_margin,
                                                       bool expert_thresholds) {
  return std::make_unique<AbstainPolicy>(std::move(inner), min_score, min_margin, expert_thresholds);
}

}  // namespace coterie::router_internal
