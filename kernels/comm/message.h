#ifndef COTERIE_KERNELS_COMM_MESSAGE_H_
#define COTERIE_KERNELS_COMM_MESSAGE_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "kernels/comm/loss.h"

namespace coterie {

// Stands before every message between two members and says what the sender does, so that members that do
// different things find out and name each other. 64 bytes in every version, little-endian.
struct MessageHeader {
  static constexpr uint32_t kMagic = 0x314d4f43;  // "COM1"

  uint32_t magic = kMagic;
  uint16_t version = 0;
  uint16_t from = 0;
  uint64_t group = 0;  // hash of its name and its members' names
  uint64_t epoch = 0;
  uint64_t count = 0;
  uint32_t peer = 0;  // root, or receiver
  uint8_t call = 0;   // Communicator::CallKind
  uint8_t type = 0;   // ElementType
  uint8_t op = 0;     // ReduceOp
  uint8_t phase = 0;  // of the call
  uint64_t unused[3] = {};
};
static_assert(sizeof(MessageHeader) == 64);

uint64_t GroupHash(const std::string& group, const std::vector<std::string>& members);

// Nothing when `theirs`, which came from `peer`, is what `expected` (with from = peer) says.
std::optional<Loss> CheckHeader(const MessageHeader& expected, const MessageHeader& theirs, int peer,
                                const std::vector<std::string>& members);

}  // namespace coterie

#endif  // COTERIE_KERNELS_COMM_MESSAGE_H_
