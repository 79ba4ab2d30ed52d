#include "kernels/comm/message.h"

#include <cstring>

#include "common/digest.h"
#include "kernels/comm/communicator.h"

namespace coterie {
namespace {

std::string Words(const MessageHeader& header) {
  const auto kind = static_cast<ElementType>(header.type);
  return absl::StrCat(ToAbsl(CallName(header.call)), " of ", header.count, " ", ToAbsl(ElementName(kind)),
                      header.op == static_cast<uint8_t>(ReduceOp::kMax) ? " (maximum)" : "", ", member ",
                      header.peer, ", phase ", header.phase);
}

}  // namespace

uint64_t GroupHash(const std::string& group, const std::vector<std::string>& members) {
  Hasher hasher;
  hasher.UpdateField(group);
  for (const std::string& name : members) hasher.UpdateField(name);
  uint64_t hash = 0;
  std::memcpy(&hash, hasher.Finish().bytes().data(), sizeof(hash));
  return hash;
}

std::optional<Loss> CheckHeader(const MessageHeader& expected, const MessageHeader& theirs, int peer,
                                const std::vector<std::string>& members) {
  if (std::memcmp(&expected, &theirs, sizeof(theirs)) == 0) return std::nullopt;
  const std::string who = MemberName(peer, members);
  const auto refuse = [&](absl::StatusCode code, const std::string& reason) {
    return Loss{code, peer, absl::StrCat(who, " ", reason)};
  };
  constexpr auto kGone = absl::StatusCode::kUnavailable;
  if (theirs.magic != expected.magic) return refuse(kGone, "sent something that is no message of ours");
  if (theirs.version != expected.version) {
    return refuse(kGone,
                  absl::StrCat("sent a message of version ", theirs.version, ", not ", expected.version));
  }
  if (theirs.group != expected.group) return refuse(kGone, "sent a message of another group");
  if (theirs.epoch != expected.epoch) {
    return refuse(kGone, absl::StrCat("sent a message of epoch ", theirs.epoch, ", not ", expected.epoch));
  }
  if (theirs.from != expected.from) return refuse(kGone, absl::StrCat("calls itself member ", theirs.from));
  return refuse(absl::StatusCode::kInvalidArgument,
                absl::StrCat("called ", Words(theirs), "; expected was ", Words(expected)));
}

}  // namespace coterie
