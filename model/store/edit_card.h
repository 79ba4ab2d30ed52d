#ifndef COTERIE_MODEL_STORE_EDIT_CARD_H_
#define COTERIE_MODEL_STORE_EDIT_CARD_H_

#include <span>
#include <string>
#include <string_view>

#include "common/status.h"
#include "model/store/catalogue_entry.h"

namespace coterie {

// The version after this one: its last number, one higher. InvalidArgument where it ends with none.
StatusOr<std::string> NextVersion(std::string_view version);

// The card `yaml` of a composite expert with another version and other members, each by its digest, and all
// the rest of its text as it is. FailedPrecondition for a card whose fields do not begin lines of their own.
StatusOr<std::string> CardWithMembers(std::string_view yaml, std::string_view version,
                                      std::span<const ExpertMember> members);

}  // namespace coterie

#endif  // COTERIE_MODEL_STORE_EDIT_CARD_H_
