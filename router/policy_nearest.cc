#include <algorithm>

#include "router/policies.h"

namespace coterie::router_internal {
namespace {

// The expert whose prototype is nearest (MoIN, RouterRetriever).
class NearestPolicy : public RoutingPolicy {
 public:
  StatusOr<RoutePlan> Route(const ExpertIndex& index, const RouteQuery& query) const override {
    // Two at least, for the margin.
    ASSIGN_OR_RETURN(const auto ranked,
                     index.Search(query.embedding, std::max<size_t>(query.max_candidates, 2), query.allowed));
    if (ranked.empty()) return NothingToRank("nearest", index, query);
    RoutePlan plan = StartPlan("nearest", index, ranked, query.max_candidates);
    AddExpert(index, ranked[0], 1.0f, &plan);
    plan.reason = RankingInWords(index, plan, ranked);
    return plan;
  }
};

}  // namespace

std::unique_ptr<const RoutingPolicy> MakeNearestPolicy() { return std::make_unique<NearestPolicy>(); }

}  // namespace coterie::router_internal
