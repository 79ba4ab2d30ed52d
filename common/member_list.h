#ifndef COTERIE_COMMON_MEMBER_LIST_H_
#define COTERIE_COMMON_MEMBER_LIST_H_

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "common/status.h"

namespace coterie {

// One of several experts that are to answer together, as a client writes it.
struct RequestedMember {
  std::string expert;  // a name, or name@digest
  std::optional<float> weight;
};

// "a:0.6,b:0.4" or "a,b". InvalidArgument for an entry that is not NAME or NAME:WEIGHT; whether there are
// such experts and the weights make sense is for the gateway to say.
StatusOr<std::vector<RequestedMember>> ParseMemberList(std::string_view text);

}  // namespace coterie

#endif  // COTERIE_COMMON_MEMBER_LIST_H_
