#ifndef COTERIE_KERNELS_COMM_TRANSPORT_H_
#define COTERIE_KERNELS_COMM_TRANSPORT_H_

#include <cstddef>
#include <optional>
#include <span>

#include "absl/time/time.h"
#include "common/clock.h"
#include "kernels/comm/loss.h"
#include "kernels/comm/message.h"

namespace coterie {

// One message to a member, one from it, or both. Empty buffers are messages, too: a header and nothing more.
struct Transfer {
  int peer = 0;
  bool sends = true;
  bool receives = true;
  std::span<const std::byte> out;
  std::span<std::byte> in;
};

// At a deadline a member tells everybody whom it misses, and listens for so long before it blames them: one
// of them may have been held up by the member that is lost, and say so.
inline constexpr absl::Duration kListenTime = absl::Milliseconds(200);

struct TransferWait {
  absl::Duration timeout;  // for messages
  MonotonicTime deadline;
};

// Carries messages between the members of a group of which each reaches each. One thread at a time.
class Transport {
 public:
  virtual ~Transport() = default;

  // Does all transfers at once, in order with earlier ones of each pair of members. `header` stands before
  // what is sent, and before what comes but for the sender. Nothing when all are done. After a loss nothing
  // of the buffers is touched any more once Leave has returned.
  virtual std::optional<Loss> Exchange(const MessageHeader& header, std::span<const Transfer> transfers,
                                       const TransferWait& wait) = 0;

  // Tells the others why, as far as they listen, and ends. Once.
  virtual void Leave(const Loss& why) = 0;
};

}  // namespace coterie

#endif  // COTERIE_KERNELS_COMM_TRANSPORT_H_
