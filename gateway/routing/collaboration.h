#ifndef COTERIE_GATEWAY_ROUTING_COLLABORATION_H_
#define COTERIE_GATEWAY_ROUTING_COLLABORATION_H_

#include <cstdint>
#include <string>
#include <vector>

#include "common/ids.h"
#include "common/member_list.h"
#include "common/route_plan.h"
#include "common/status.h"

namespace coterie::gateway {

struct CollaborationMember {
  ExpertSelector expert;
  float weight = 0;  // of a completed ask: above 0, whole 32nds; all sum to 1
};

// Several experts that a request wants at once: `members`, or the router's best `k`. kNone: the request says
// nothing, and the policy decides.
struct CollaborationAsk {
  CollaborationMode mode = CollaborationMode::kNone;
  std::vector<CollaborationMember> members;
  uint32_t k = 0;
};

// The same as it comes from a client.
struct RequestedCollaboration {
  std::string mode;  // "mixture", "blend"; others are refused by name
  std::vector<RequestedMember> members;
  uint32_t k = 0;
};

// Members whose weight is too small to matter are dropped. Errors name the field, its value and the limit:
//   Unimplemented: a mode that is not built;  InvalidArgument: anything else.
StatusOr<CollaborationAsk> CompleteCollaboration(const RequestedCollaboration& requested);

}  // namespace coterie::gateway

#endif  // COTERIE_GATEWAY_ROUTING_COLLABORATION_H_
