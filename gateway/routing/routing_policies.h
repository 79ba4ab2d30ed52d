#ifndef COTERIE_GATEWAY_ROUTING_ROUTING_POLICIES_H_
#define COTERIE_GATEWAY_ROUTING_ROUTING_POLICIES_H_

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "common/status.h"
#include "router/routing_policy.h"

namespace coterie::gateway {

// The gateway's own policy and those that a request may name. Made from the options alone, so that
// generations of the catalogue share one (a classifier's weights are megabytes). Immutable and thread-safe.
class RoutingPolicies {
 public:
  static StatusOr<std::shared_ptr<const RoutingPolicies>> Create(const coterie::RoutingOptions& options);

  // The gateway's own for an empty name; InvalidArgument listing the names for an unknown one.
  StatusOr<const RoutingPolicy*> Named(const std::string& name) const;

 private:
  RoutingPolicies() = default;
  std::unique_ptr<const RoutingPolicy> own_;
  std::vector<std::pair<std::string, std::unique_ptr<const RoutingPolicy>>> others_;
};

}  // namespace coterie::gateway

#endif  // COTERIE_GATEWAY_ROUTING_ROUTING_POLICIES_H_
