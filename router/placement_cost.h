#ifndef COTERIE_ROUTER_PLACEMENT_COST_H_
#define COTERIE_ROUTER_PLACEMENT_COST_H_

#include <string>

#include "router/placement.h"

namespace coterie::router_internal {

// Estimated seconds to the first token if `worker`, which is fit, gets the request; in *words what they are
// made of.
double CostOf(const PlacementOptions& options, const PlacementRequest& request, const WorkerView& worker,
              std::string* words);

std::string SecondsInWords(double seconds);

}  // namespace coterie::router_internal

#endif  // COTERIE_ROUTER_PLACEMENT_COST_H_
