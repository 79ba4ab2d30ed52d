#ifndef COTERIE_ROUTER_ROUTING_POLICY_H_
#define COTERIE_ROUTER_ROUTING_POLICY_H_

#include <cstddef>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "common/ids.h"
#include "common/route_plan.h"
#include "common/status.h"
#include "router/expert_index.h"

namespace coterie {

// One question to the router. Everything is borrowed for the call.
struct RouteQuery {
  std::span<const float> embedding;      // [dim], unit norm
  std::span<const std::string> domains;  // domain or tags the client declared, first match wins; often empty
  const ExpertMask* allowed = nullptr;   // of the same index; null: every expert
  size_t max_candidates = 5;             // how many weighed experts the plan lists
  size_t k = 0;                          // experts of kTopK and kMixture; 0: RoutingOptions::top_k
};

// How a prompt becomes a plan. Pure: no I/O, no clock, no state; thread-safe.
class RoutingPolicy {
 public:
  virtual ~RoutingPolicy() = default;
  // A plan with experts, or with `base` set (no expert is allowed, or the policy abstained), and a reason.
  // InvalidArgument for a query the index refuses.
  virtual StatusOr<RoutePlan> Route(const ExpertIndex& index, const RouteQuery& query) const = 0;
};

// Multinomial logistic regression on the embedding: p = softmax(W e + b). Classes that the index does not
// hold or the caller may not use are left out before the softmax.
struct ClassifierWeights {
  std::vector<std::string> classes;  // expert names
  std::vector<float> weights;        // [n_classes, dim]
  std::vector<float> bias;           // [n_classes]
};

struct RoutingOptions {
  enum class Selection {
    kNearest,     // the best expert
    kTopK,        // a blend (in the space of weights) of top_k experts with c-BTM's weights
    kMixture,     // c-BTM: a mixture of their distributions, with the same weights
    kAdaptiveK,   // one when the margin is confident, else the smallest set whose mass reaches adaptive_mass
    kClassifier,  // the most probable class
  };
  Selection selection = Selection::kNearest;

  // Rules matrix (CCoE), tried before anything else: a declared domain -> the expert. The domains that
  // experts declare on their cards are tried after these.
  struct Rule {
    std::string domain;
    std::string expert;
  };
  std::vector<Rule> rules;
  bool use_rules = true;  // false: neither these nor the cards' domains

  // Abstain: an answer of the base instead of an expert's when the best score or its margin is lower.
  // An expert's own threshold takes the place of min_score. The margin is not asked for when nothing
  // competes.
  float min_score = 0.2f;
  float min_margin = 0.0f;

  size_t top_k = 2;                // kTopK, kMixture: 1..16. kAdaptiveK: at most so many
  float temperature = 0.1f;        // of c-BTM weights, (0, 100]
  float confident_margin = 0.15f;  // kAdaptiveK: at or above it one expert is enough
  float adaptive_mass = 0.9f;      // kAdaptiveK: (0, 1]

  ClassifierWeights classifier;  // kClassifier
};

// Builds the chain rules -> selection -> abstain. InvalidArgument naming the option, its value and the limit.
StatusOr<std::unique_ptr<const RoutingPolicy>> CreateRoutingPolicy(RoutingOptions options);

// "nearest", "top_k", "mixture", "adaptive_k", "classifier"; InvalidArgument listing them.
StatusOr<RoutingOptions::Selection> ParseSelection(std::string_view text);

// Plans that need no scores: the reason says that the request named them.
RoutePlan PlanForBase(uint64_t catalogue_generation);
RoutePlan PlanForExpert(const ExpertRef& expert, uint64_t catalogue_generation);
// Of several members, or of one.
RoutePlan PlanForMembers(std::vector<PlannedExpert> members, CollaborationMode mode,
                         uint64_t catalogue_generation);

}  // namespace coterie

#endif  // COTERIE_ROUTER_ROUTING_POLICY_H_
