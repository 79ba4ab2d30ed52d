#ifndef COTERIE_GATEWAY_ROUTING_ROUTING_ASK_H_
#define COTERIE_GATEWAY_ROUTING_ROUTING_ASK_H_

#include <memory>
#include <string>
#include <vector>

#include "common/name_patterns.h"
#include "gateway/routing/collaboration.h"

namespace coterie::gateway {

// What a request says about its routing, beside which expert it wants.
struct RoutingAsk {
  std::vector<std::string> tags;
  std::vector<std::string> allowed_experts;  // empty: all
  std::string policy;                        // empty: the gateway's own
  // What decides between an expert's live version and its canary (router/canary.h); empty: the live one.
  std::string canary_key;
  // Of the allowed experts, those that cannot answer at the moment (answer/fallback.h).
  std::vector<std::string> without;
  CollaborationAsk collaboration;  // members under ExpertSelector::Kind::kMembers
  // Those that the caller's key may use, whatever the request allows; null: every one.
  std::shared_ptr<const NamePatterns> granted;
};

}  // namespace coterie::gateway

#endif  // COTERIE_GATEWAY_ROUTING_ROUTING_ASK_H_
