#ifndef COTERIE_NET_CONNECTION_FLAGS_H_
#define COTERIE_NET_CONNECTION_FLAGS_H_

#include <cstdint>
#include <string>

#include "common/status.h"
#include "net/acceptor.h"

namespace coterie::net {

// The settings of AcceptorOptions that a process takes from its flags.
struct ConnectionFlags {
  int64_t max_connections = 0;              // 0: as many as the descriptors allow, at most 8,192
  int64_t max_connections_per_address = 0;  // 0: half of them

  // For a listener that everybody knows; it watches the wall clock, too (ClockWatch). The flags are for each
  // of the `n_listeners` that clients of this process have, which together fit its descriptors:
  // InvalidArgument or FailedPrecondition where they do not, or do not fit each other.
  StatusOr<AcceptorOptions> Resolve(const std::string& listener, int n_listeners = 1) const;
};

}  // namespace coterie::net

#endif  // COTERIE_NET_CONNECTION_FLAGS_H_
