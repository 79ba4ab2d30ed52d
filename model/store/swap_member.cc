#include <algorithm>
#include <utility>

#include "common/quoted.h"
#include "model/store/composite.h"
#include "model/store/edit_card.h"
#include "model/store/expert_store.h"

// Another member in the place of one, the rest of an expert as it is.
namespace coterie {

StatusOr<PublishResult> ExpertStore::SwapMember(const MemberSwap& swap) {
  RETURN_IF_ERROR(ValidateExpertName(swap.name));
  if (swap.canary_share) RETURN_IF_ERROR(ValidateCanaryShare(*swap.canary_share));
  ASSIGN_OR_RETURN(const ExpertSelector with, ParseExpertSelector(swap.with));
  if (with.kind != ExpertSelector::Kind::kNamed) {
    return absl::InvalidArgumentError(absl::StrCat(Quoted(swap.with), " is not the name of an expert"));
  }
  ASSIGN_OR_RETURN(std::shared_ptr<StagingRoom> room, NewRoom());
  Refresh().status().IgnoreError();  // a catalogue that is lost is said when it is to be changed
  const std::shared_ptr<const Catalogue> catalogue = Snapshot();
  ASSIGN_OR_RETURN(const Catalogue::Resolved found,
                   catalogue->Resolve({.kind = with.kind, .name = swap.name}));
  const ExpertVersion& live = found.entry->live;
  if (!live.is_composite()) {
    return absl::FailedPreconditionError(
        absl::StrCat("expert ", swap.name, " is an adapter and has no members"));
  }
  std::vector<ExpertMember> members = live.members;
  const auto old = std::find_if(members.begin(), members.end(),
                                [&](const ExpertMember& member) { return member.name == swap.member; });
  if (old == members.end()) {
    return absl::NotFoundError(absl::StrCat("expert ", swap.name, " has no member ", Quoted(swap.member),
                                            "; it is ", MembersInWords(members)));
  }
  ASSIGN_OR_RETURN(const Catalogue::Resolved next, catalogue->Resolve(with));
  old->name = next.entry->name;
  old->adapter = next.version->adapter;
  std::string version = swap.version;
  if (version.empty()) {
    ASSIGN_OR_RETURN(version, NextVersion(live.version));
  }
  ASSIGN_OR_RETURN(const std::string yaml, ReadCard(live.revision));
  ASSIGN_OR_RETURN(const std::string card, CardWithMembers(yaml, version, members));
  ASSIGN_OR_RETURN(auto staging, StagingFolder::Create(std::move(room), options_.file_limits));
  RETURN_IF_ERROR(staging->Append(kCardFile, card));
  ASSIGN_OR_RETURN(const Prototypes prototypes, ReadPrototypes(live.revision));
  if (!prototypes.united) {
    RETURN_IF_ERROR(
        staging->CopyIn(kPrototypesFile, root_ / "cards" / live.revision.ToHex() / kPrototypesFile));
  }
  std::vector<StatusOr<Checked>> one;
  one.push_back(Check(std::move(staging)));
  if (one[0].ok()) {
    one[0]->canary_share = swap.canary_share;
    one[0]->made_from = live.adapter;
  }
  return std::move(Commit(std::move(one))[0]);
}

}  // namespace coterie
