#ifndef COTERIE_NET_CLOCK_WATCH_H_
#define COTERIE_NET_CLOCK_WATCH_H_

#include "absl/time/time.h"

namespace coterie::net {

// Notices that somebody set the wall clock back, and wakes gRPC's timer thread, which would sleep for as long
// again: gRPC 1.51 keeps its deadlines on the monotonic clock, but the lock library below it sleeps until a
// point on the wall clock, worked out when the sleep began. (Set forth, such a sleep ends early, which gRPC
// bears.) Not thread-safe.
class ClockWatch {
 public:
  ClockWatch();
  // True when the wall clock was set back since the last look, by more than a slow clock drifts.
  bool Look();

 private:
  absl::Duration offset_;  // of the wall clock from the monotonic one
};

}  // namespace coterie::net

#endif  // COTERIE_NET_CLOCK_WATCH_H_
