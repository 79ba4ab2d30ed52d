#ifndef COTERIE_ROUTER_ROUTING_LIMITS_H_
#define COTERIE_ROUTER_ROUTING_LIMITS_H_

#include <cstddef>

#include "common/sequence.h"

namespace coterie {

// The most experts of one answer: what a worker combines in one sequence, and more than a batch can pay for.
inline constexpr size_t kMaxTopK = kMaxAdaptersPerSequence;

// The least RoutingOptions::temperature and adaptive_mass, for the policy and for the flags that set them
// alike: below, the float32 weights of a mixture are 0 and 1.
inline constexpr double kMinRouteTemperature = 1e-3;
inline constexpr double kMinAdaptiveMass = 1e-3;

}  // namespace coterie

#endif  // COTERIE_ROUTER_ROUTING_LIMITS_H_
