#ifndef COTERIE_NET_DESCRIPTORS_H_
#define COTERIE_NET_DESCRIPTORS_H_

#include <cstdint>
#include <string>

#include "common/status.h"

namespace coterie::net {

// How many files and sockets the process may have open (RLIMIT_NOFILE).
struct DescriptorLimit {
  int64_t soft_before = 0;  // what the process was started with
  int64_t soft = 0;         // what it has now
  int64_t hard = 0;         // what it could raise itself to

  std::string ToString() const;
};

DescriptorLimit CurrentDescriptorLimit();

// Raises the soft limit to the hard one: 1,024, the usual soft limit, is kept low for programs that call
// select(), and nothing here does. Call once, before the first listener.
DescriptorLimit RaiseDescriptorLimit();

// Open now, counted in /proc/self/fd; -1 where that cannot be read.
int64_t CountOpenDescriptors();

// Descriptors that connections of clients never get: weights and adapters, uploads, connections to workers,
// polling. A quarter of the limit, from 128 to 4,096.
int64_t ReservedDescriptors(int64_t limit);

// Places for clients' connections under this limit. `wanted` 0: as many as fit, at most 8,192, since an idle
// one costs gRPC some 12 KB. Of a process with several listeners for clients each gets that many, and all of
// them fit. InvalidArgument, with both numbers and what to do, when `wanted` does not fit.
StatusOr<int> PlacesForConnections(int64_t wanted, const DescriptorLimit& limit, int n_listeners = 1);

}  // namespace coterie::net

#endif  // COTERIE_NET_DESCRIPTORS_H_
