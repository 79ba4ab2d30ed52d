#include <algorithm>

#include "router/policies.h"

namespace coterie::router_internal {
namespace {

// The rules matrix of CCoE: the declared domain decides, without a threshold: first by the rules, then by the
// domains on experts' cards. The question's text is not read.
class RulesPolicy : public RoutingPolicy {
 public:
  RulesPolicy(std::vector<RoutingOptions::Rule> rules, std::unique_ptr<const RoutingPolicy> inner)
      : rules_(std::move(rules)), inner_(std::move(inner)) {}

  StatusOr<RoutePlan> Route(const ExpertIndex& index, const RouteQuery& query) const override {
    // Also where a rule decides: a malformed embedding is refused whatever the declared domain.
    RETURN_IF_ERROR(index.CheckQuery(query.embedding));
    std::string unavailable;  // the first rule that matched and named an expert which cannot serve
    for (const std::string& domain : query.domains) {
      for (const RoutingOptions::Rule& rule : rules_) {
        if (rule.domain != domain) continue;
        const auto expert = index.Find(rule.expert);
        if (expert.has_value() && Allowed(query, *expert)) {
          return Decide(domain, {{*expert, ScoreOf(index, query, *expert)}}, index, query);
        }
        if (unavailable.empty()) {
          unavailable = absl::StrCat(
              "rule domain=", domain, " names ", rule.expert,
              expert.has_value() ? ", which this caller may not use; " : ", which the catalogue lacks; ");
        }
      }
      std::vector<ExpertIndex::Hit> claimants;
      for (const uint32_t expert : index.WithDomain(domain)) {
        if (Allowed(query, expert)) claimants.push_back({expert, ScoreOf(index, query, expert)});
      }
      if (!claimants.empty()) return Decide(domain, std::move(claimants), index, query);
    }
    ASSIGN_OR_RETURN(RoutePlan plan, inner_->Route(index, query));
    plan.reason = unavailable + plan.reason;
    return plan;
  }

 private:
  static bool Allowed(const RouteQuery& query, uint32_t expert) {
    return query.allowed == nullptr || query.allowed->Test(expert);
  }

  static float ScoreOf(const ExpertIndex& index, const RouteQuery& query, uint32_t expert) {
    return index.Score(query.embedding, expert).value_or(0.0f);
  }

  // Several experts may claim one domain: the nearest of them answers.
  static RoutePlan Decide(const std::string& domain, std::vector<ExpertIndex::Hit> claimants,
                          const ExpertIndex& index, const RouteQuery& query) {
    std::sort(claimants.begin(), claimants.end(), ExpertIndex::Better);
    RoutePlan plan = StartPlan("rules", index, claimants, query.max_candidates);
    AddExpert(index, claimants[0], 1.0f, &plan);
    plan.reason = absl::StrCat("rule: domain=", domain, " -> ", plan.experts[0].name);
    if (claimants.size() > 1) {
      absl::StrAppend(&plan.reason, " (nearest of ", claimants.size(), ", score ",
                      TwoDecimals(claimants[0].score), ", margin ", TwoDecimals(plan.margin), ")");
    }
    return plan;
  }

  const std::vector<RoutingOptions::Rule> rules_;
  const std::unique_ptr<const RoutingPolicy> inner_;
};

}  // namespace

std::unique_ptr<const RoutingPolicy> MakeRulesPolicy(std::vector<RoutingOptions::Rule> rules,
                                                     std::unique_ptr<const RoutingPolicy> inner) {
  return std::make_unique<RulesPolicy>(std::move(rules), std::move(inner));
}

}  // namespace coterie::router_internal
