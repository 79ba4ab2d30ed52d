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
// for them. Thread-safe. The processes of a gang are served by one of them over our own gRPC
// (worker/rendezvous).
//
//   InvalidArgument     a key or a text beyond the limits
//   ResourceExhausted   the rendezvous is full
//   PermissionDenied    the one that serves it knows no such group, or another token for it
//   Unavailable         the one that serves it cannot be reached
//   Aborted             the group was closed there
class Rendezvous {
 public:
  static constexpr size_t kMaxBytes = 64 << 10;  // of a text
  static constexpr size_t kMaxGroupBytes = 256;  // of a name
  static constexpr size_t kMaxTopicBytes = 32;

  virtual ~Rendezvous() = default;

  // AlreadyExists: somebody has published under this key (two members of one rank). FailedPrecondition: the
  // group has a newer epoch. Where this takes time, it ends by the deadline (Unavailable) or with `abort`
  // (Cancelled).
  virtual Status Publish(const RendezvousKey& key, const std::string& text, MonotonicTime deadline,
                         const AbortFlag& abort) = 0;

  // DeadlineExceeded when nothing was published in time, Cancelled when `abort` was raised,
  // FailedPrecondition as soon as the group has a newer epoch. With a deadline that has passed: looks once.
  virtual StatusOr<std::string> Await(const RendezvousKey& key, MonotonicTime deadline,
                                      const AbortFlag& abort) = 0;
};

}  // namespace coterie

#endif  // COTERIE_KERNELS_COMM_RENDEZVOUS_H_
