#ifndef COTERIE_COMMON_ROUTING_REFERENCE_H_
#define COTERIE_COMMON_ROUTING_REFERENCE_H_

#include <cstdint>

namespace coterie {

// How the texts that an expert was made for score against its prototypes (router/expert_index.h), as its
// card says: what the questions that come are compared with.
struct RoutingReference {
  double mean_score = 0;  // in [-1, 1]
  double std_score = 0;   // of one text, in [0, 1]
  uint64_t n = 0;         // texts measured, at least 1

  bool operator==(const RoutingReference&) const = default;
};

}  // namespace coterie

#endif  // COTERIE_COMMON_ROUTING_REFERENCE_H_
