#ifndef COTERIE_KERNELS_COMM_MEMBER_CARD_H_
#define COTERIE_KERNELS_COMM_MEMBER_CARD_H_

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "common/clock.h"
#include "kernels/comm/communicator.h"
#include "kernels/comm/rendezvous.h"

namespace coterie {

// Of what members say to each other, before and in calls. Another version is refused by name.
inline constexpr int kCommVersion = 1;

// What a member publishes of itself before it is connected.
struct MemberCard {
  int version = kCommVersion;
  std::string backend;
  std::string group;
  uint64_t epoch = 0;
  int rank = 0;
  std::vector<std::string> members;
  std::string details;  // of the backend: addresses, a library's version

  // Lines of text whose first says the version, in every version.
  std::string Encode() const;
  static StatusOr<MemberCard> Parse(std::string_view text);
};

// 'forming group "g", epoch 3', for messages.
std::string FormingGroup(const CommunicatorOptions& options);

// Publishes this member's card and collects everybody's, in the order of ranks, by the deadline. A card that
// does not fit (version, backend, group, epoch, rank, members) and a member that does not come are named.
StatusOr<std::vector<MemberCard>> MeetMembers(const CommunicatorOptions& options, std::string_view backend,
                                              const std::string& details, Rendezvous* rendezvous,
                                              MonotonicTime deadline);

}  // namespace coterie

#endif  // COTERIE_KERNELS_COMM_MEMBER_CARD_H_
