#ifndef COTERIE_KERNELS_COMM_RENDEZVOUS_H_
#define COTERIE_KERNELS_COMM_RENDEZVOUS_H_

#include <cstddef>
#include <cstdint>
#include <string>

#include "common/clock.h"
#include "common/status.h"
#include "kernels/comm/abort_flag.h"

namespace coterie {

struct RendezvousKey {
  std::string group;
  uint64_t epoch = 0;
  int rank = 0;
  std::string topic;  // "card", "nccl-id", "farewell"

  auto operator<=>(const RendezvousKey&) const = default;
};

// Where members find each other before they are connected: each publishes a few small texts, the others wait
// for them. Thread-safe. The processes of a gang are served by one of them over our own gRPC.
class Rendezvous {
 public:
  static constexpr size_t kMaxBytes = 64 << 10;

  virtual ~Rendezvous() = default;

  // AlreadyExists: somebody has published under this key (two members of one rank). FailedPrecondition: the
  // group has a newer epoch.
  virtual Status Publish(const RendezvousKey& key, const std::string& text) = 0;

  // DeadlineExceeded when nothing was published in time, Cancelled when `abort` was raised,
  // FailedPrecondition as soon as the group has a newer epoch.
  virtual StatusOr<std::string> Await(const RendezvousKey& key, MonotonicTime deadline,
                                      const AbortFlag& abort) = 0;
};

}  // namespace coterie

#endif  // COTERIE_KERNELS_COMM_RENDEZVOUS_H_
