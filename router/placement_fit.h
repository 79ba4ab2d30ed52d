#ifndef COTERIE_ROUTER_PLACEMENT_FIT_H_
#define COTERIE_ROUTER_PLACEMENT_FIT_H_

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "router/placement.h"

namespace coterie::router_internal {

// Whether a worker can take a request at all.
struct Fit {
  std::string why_not;    // empty: it can
  bool too_long = false;  // it has no room for the prompt and one token after it, and never will
  bool few_slots =
      false;  // it has fewer adapter slots than the request has adapters, and never will have more
  bool hopeless = false;  // not now and not later: one of these two, or the worker is of another kind
};
Fit FitOf(const PlacementRequest& request, const WorkerView& worker, bool strict_serves);

// Of all experts of the request.
bool Serves(const PlacementRequest& request, const WorkerView& worker);

// Tokens of prompt and answer that one sequence can have there.
uint64_t RoomOf(const WorkerView& worker);

// Why no worker can take the request; `unfit` names them all, fits[i] is of workers[i].
Status NoneFit(const PlacementRequest& request, std::span<const WorkerView> workers,
               std::span<const Fit> fits, std::span<const Placement::Ranked> unfit);

}  // namespace coterie::router_internal

#endif  // COTERIE_ROUTER_PLACEMENT_FIT_H_
