#ifndef COTERIE_GATEWAY_UPSTREAM_BACKOFF_H_
#define COTERIE_GATEWAY_UPSTREAM_BACKOFF_H_

#include <algorithm>

#include "absl/time/time.h"

namespace coterie::gateway {

// How long to wait before something that failed is tried again: twice as long each time, up to a bound, and
// from the shortest wait on again once it went well. Not thread-safe.
class Backoff {
 public:
  // Above zero: zero would never grow.
  Backoff(absl::Duration shortest, absl::Duration longest)
      : shortest_(shortest), longest_(longest), next_(shortest) {}

  absl::Duration Next() {
    const absl::Duration wait = next_;
    next_ = std::min(2 * next_, longest_);
    return wait;
  }
  void Reset() { next_ = shortest_; }

 private:
  absl::Duration shortest_, longest_;
  absl::Duration next_;
};

}  // namespace coterie::gateway

#endif  // COTERIE_GATEWAY_UPSTREAM_BACKOFF_H_
