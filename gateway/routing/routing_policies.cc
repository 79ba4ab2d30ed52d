#include "gateway/routing/routing_policies.h"

#include "absl/strings/str_join.h"
#include "common/quoted.h"

namespace coterie::gateway {

StatusOr<std::shared_ptr<const RoutingPolicies>> RoutingPolicies::Create(
    const coterie::RoutingOptions& options) {
  using Selection = coterie::RoutingOptions::Selection;
  std::shared_ptr<RoutingPolicies> policies(new RoutingPolicies());
  ASSIGN_OR_RETURN(policies->own_, CreateRoutingPolicy(options));
  for (const char* name : {"nearest", "top_k", "mixture", "adaptive_k", "classifier"}) {
    coterie::RoutingOptions routing = options;
    ASSIGN_OR_RETURN(routing.selection, ParseSelection(name));
    if (routing.selection == Selection::kClassifier && routing.classifier.classes.empty()) continue;
    ASSIGN_OR_RETURN(auto policy, CreateRoutingPolicy(std::move(routing)));
    policies->others_.emplace_back(name, std::move(policy));
  }
  return std::shared_ptr<const RoutingPolicies>(std::move(policies));
}

StatusOr<const RoutingPolicy*> RoutingPolicies::Named(const std::string& name) const {
  if (name.empty()) return own_.get();
  std::vector<std::string> known;
  for (const auto& [other, policy] : others_) {
    if (other == name) return policy.get();
    known.push_back(other);
  }
  return absl::InvalidArgumentError(
      absl::StrCat("routing.policy ", Quoted(name), " is not one of ", absl::StrJoin(known, ", ")));
}

}  // namespace coterie::gateway
