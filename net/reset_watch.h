#ifndef COTERIE_NET_RESET_WATCH_H_
#define COTERIE_NET_RESET_WATCH_H_

#include <cstdint>

#include "absl/container/flat_hash_map.h"
#include "common/clock.h"

namespace coterie::net {

// How many of its calls a connection may break off. Opening a call and resetting it at once costs a client
// next to nothing and us the call's memory and some hundred microseconds of the threads that carry everybody
// (CVE-2023-44487, against which gRPC 1.51 has no means: a call that was reset counts no more against the
// streams that a connection may have).
struct ResetLimits {
  // At once: a client that gives up breaks off all that it has open.
  double burst = 1024;
  double per_second = 500;
  // Opened and not yet done with, those that were reset included: more than twice as many as a connection may
  // have open at a time, which only one has that resets faster than we can look at it.
  int64_t most_open = 2048;
};

// Keeps an account of each connection's resets. Not thread-safe.
class ResetWatch {
 public:
  explicit ResetWatch(const ResetLimits& limits) : limits_(limits) {}

  // `n_resets`: of this connection so far, which never falls. True when it has broken off more than it may,
  // since it was first asked for.
  bool Exceeds(int64_t connection, int64_t n_resets, MonotonicTime now);
  // Forgets all that were not asked for since the last call.
  void ForgetOthers();
  const ResetLimits& limits() const { return limits_; }

 private:
  struct Account {
    int64_t n_resets = 0;
    double left = 0;
    MonotonicTime seen;
    bool recent = true;
  };
  const ResetLimits limits_;
  absl::flat_hash_map<int64_t, Account> accounts_;
};

}  // namespace coterie::net

#endif  // COTERIE_NET_RESET_WATCH_H_
