#ifndef COTERIE_ROUTER_PLACEMENT_COST_H_
#define COTERIE_ROUTER_PLACEMENT_COST_H_

#include <cstdint>
#include <string>

#include "router/placement.h"
#include "router/placement_lookup.h"

namespace coterie::router_internal {

// What the time to the first token is made of, in seconds.
struct CostParts {
  double queue = 0;       // sequences that must end before this one starts
  double contention = 0;  // sequences beside it
  double load = 0;        // adapters that are not there
  double prefill = 0;     // prompt tokens whose blocks are not warm
  uint32_t n_cold = 0;    // adapters to load
  uint32_t n_coming = 0;  // adapters on their way
  uint64_t n_warm = 0;    // prompt tokens

  double total() const { return queue + contention + load + prefill; }
};

// Estimated for the worker of `row`, which is fit, if it gets the request.
CostParts CostOf(const PlacementOptions& options, const PlacementLookup& lookup, WorkerTable::Row row);

// What the cost is made of, for people.
std::string CostInWords(const CostParts& parts, const PlacementLookup& lookup, WorkerTable::Row row);
std::string SecondsInWords(double seconds);

}  // namespace coterie::router_internal

#endif  // COTERIE_ROUTER_PLACEMENT_COST_H_
