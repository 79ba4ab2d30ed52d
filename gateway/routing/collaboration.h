#ifndef COTERIE_GATEWAY_ROUTING_COLLABORATION_H_
#define COTERIE_GATEWAY_ROUTING_COLLABORATION_H_

#include <cstdint>
#include <optional>
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
  // Of kGated.
  GateKind gate = GateKind::kNone;
  uint32_t top_k = 0;  // members that a token uses of each module; 0: all
};

// The same as it comes from a client.
struct RequestedCollaboration {
  std::string mode;  // "mixture", "blend", "gated"; others are refused by name
  std::vector<RequestedMember> members;
  uint32_t k = 0;
  std::string gate;  // "gateless", "noisy", "arrow"; empty: gateless where the mode is gated
  std::optional<uint32_t> top_k;
};

// Members whose weight is too small to matter are dropped. Errors name the field, its value and the limit:
//   Unimplemented: a mode that is not built;  InvalidArgument: anything else.
StatusOr<CollaborationAsk> CompleteCollaboration(const RequestedCollaboration& requested);

// A gated collaboration among these experts, of which there may be fewer than were asked for: the plan's mode
// and gate, equal weights. Leaves a plan with fewer than two experts as it is.
void ApplyGate(const CollaborationAsk& ask, RoutePlan* plan);

}  // namespace coterie::gateway

#endif  // COTERIE_GATEWAY_ROUTING_COLLABORATION_H_
