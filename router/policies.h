#ifndef COTERIE_ROUTER_POLICIES_H_
#define COTERIE_ROUTER_POLICIES_H_

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "router/routing_policy.h"

// The links CreateRoutingPolicy chains, and what they share. Inside router/ only. Options arrive validated.
namespace coterie::router_internal {

std::unique_ptr<const RoutingPolicy> MakeNearestPolicy();
// The k nearest experts, as a blend ("top_k") or a mixture ("mixture").
std::unique_ptr<const RoutingPolicy> MakeTopKPolicy(CollaborationMode mode, size_t top_k, float temperature);
std::unique_ptr<const RoutingPolicy> MakeAdaptiveKPolicy(size_t max_k, float temperature,
                                                         float confident_margin, float mass);
std::unique_ptr<const RoutingPolicy> MakeClassifierPolicy(ClassifierWeights weights);
// Turns the plan of `inner` into one for the base when its best score or its margin is too low.
// `expert_thresholds`: an expert's own min_score counts (it is a cosine, so not under a classifier).
std::unique_ptr<const RoutingPolicy> MakeAbstainPolicy(std::unique_ptr<const RoutingPolicy> inner,
                                                       float min_score, float min_margin,
                                                       bool expert_thresholds);
// Rules first, else `inner`.
std::unique_ptr<const RoutingPolicy> MakeRulesPolicy(std::vector<RoutingOptions::Rule> rules,
                                                     std::unique_ptr<const RoutingPolicy> inner);

// A number as reasons show it: two decimals.
std::string TwoDecimals(float value);

// A plan without experts yet: policy, generation, candidates and margin from `ranked` (best first).
RoutePlan StartPlan(std::string policy, const ExpertIndex& index, std::span<const ExpertIndex::Hit> ranked,
                    size_t max_candidates);
// `mode` once all experts were added; none where there are not several.
void SetMode(CollaborationMode mode, RoutePlan* plan);
void AddExpert(const ExpertIndex& index, const ExpertIndex::Hit& hit, float weight, RoutePlan* plan);
// "<policy>: postgres 0.62, next python 0.41, margin 0.21".
std::string RankingInWords(const ExpertIndex& index, const RoutePlan& plan,
                           std::span<const ExpertIndex::Hit> ranked);
// The plan when nothing could be weighed at all.
RoutePlan NothingToRank(std::string policy, const ExpertIndex& index, const RouteQuery& query);

}  // namespace coterie::router_internal

#endif  // COTERIE_ROUTER_POLICIES_H_
