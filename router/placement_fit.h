#ifndef COTERIE_ROUTER_PLACEMENT_FIT_H_
#define COTERIE_ROUTER_PLACEMENT_FIT_H_

#include <cstdint>
#include <string>

#include "router/placement.h"
#include "router/placement_lookup.h"

namespace coterie::router_internal {

// Whether a worker can take a request at all. Reasons of this moment come before those that stay: "is
// draining" is what an operator can act on.
enum class Fit : uint8_t {
  kFit,
  kJustFailed,
  kSilent,
  kDraining,
  kOtherBase,
  kOutsideItsShare,  // with strict_serves alone
  kTooLong,          // no room for the prompt and one token after it
  kFewSlots,         // fewer adapter slots than the request has adapters
  kFewMembers,       // mixes fewer members than the request has, or none
  kNoGangs,          // answers nothing together with other workers
  kNoConstraints,    // would answer without the request's constraint
  kNoGate,           // would answer without its gate
};
Fit FitOf(PlacementLookup* lookup, WorkerTable::Row row, bool strict_serves);

// Tokens of prompt and answer that the request can have there. The rows of a mixture share the KV blocks.
uint64_t RoomOf(const PlacementRequest& request, const WorkerRow& worker);

// Why no worker can take the request.
Status NoneFit(PlacementLookup* lookup, bool strict_serves);

// In words (placement_words.cc): why one worker is unfit, and all of them at this moment.
std::string FitInWords(Fit fit, const PlacementRequest& request, const WorkerRow& worker);
Status NotNow(PlacementLookup* lookup, bool strict_serves);

}  // namespace coterie::router_internal

#endif  // COTERIE_ROUTER_PLACEMENT_FIT_H_
