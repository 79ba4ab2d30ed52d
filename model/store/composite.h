#ifndef COTERIE_MODEL_STORE_COMPOSITE_H_
#define COTERIE_MODEL_STORE_COMPOSITE_H_

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "common/digest.h"
#include "common/status.h"
#include "model/store/catalogue.h"
#include "model/store/expert_card.h"
#include "model/store/prototypes.h"

// Experts that are made of others (mixtures and blends): what becomes of their members when they are
// published.
namespace coterie {

// The members of `card` as `catalogue` has them now: who asks for the expert later gets these versions,
// whatever their names mean by then. Refused, naming the member: NotFound when it or the version is not
// there; InvalidArgument when it is a mixture or blend itself (a blend in a mixture would be neither, and
// weights of weights fall below what is kept) or the same version as one before; FailedPrecondition when it
// was made for another base than `base` (empty: any), the card's or another member's.
StatusOr<std::vector<ExpertMember>> PinMembers(const ExpertCard& card, const Catalogue& catalogue,
                                               const Digest& base);

// Names the version: of mode, members in their order, and weights. Names do not enter.
Digest CompositeDigest(CollaborationMode mode, std::span<const ExpertMember> members);

// "0.59 postgres + 0.41 python".
std::string MembersInWords(std::span<const ExpertMember> members);

// Experts of which a version that is live or on trial has a member named `name`, in order of their names.
std::vector<std::string> ComposedOf(const Catalogue& catalogue, std::string_view name);

// One member's prototypes, and its name for refusals.
struct NamedPrototypes {
  std::string name;
  Prototypes prototypes;
};
// The file prototypes.safetensors with the prototypes of all `members` (1 at least); of more than the limit
// an equal share of each member's, evenly taken. FailedPrecondition naming the member whose embedder or
// dimension is another one.
StatusOr<std::string> UniteIntoFile(std::span<const NamedPrototypes> members, const PrototypeLimits& limits);

}  // namespace coterie

#endif  // COTERIE_MODEL_STORE_COMPOSITE_H_
