#include <utility>

#include "common/hidden_paths.h"
#include "model/store/composite.h"
#include "model/store/expert_store.h"

// Publishing experts that are made of others.
namespace coterie {

StatusOr<ExpertStore::Checked> ExpertStore::CheckComposite(Checked checked) const {
  const ExpertCard& card = checked.card;
  const std::string kind(NameOf(card.mode));
  for (const std::string_view file : {kConfigFile, kWeightsFile}) {
    if (!checked.staging->Has(file)) continue;
    return absl::InvalidArgumentError(absl::StrCat("file ", ToAbsl(file),
                                                   " is there, and the card says kind: ", kind, "; a ", kind,
                                                   " has no adapter of its own"));
  }
  if (!options_.base.empty() && card.base_digest && *card.base_digest != options_.base) {
    return absl::FailedPreconditionError(absl::StrCat(
        "field base_digest of ", ToAbsl(kCardFile), " is ", card.base_digest->Short(),
        "..., the base served here is ", options_.base.Short(), "...; publish where that base is served"));
  }
  if (checked.staging->Has(kPrototypesFile)) RETURN_IF_ERROR(CheckPrototypes(&checked));
  // Whether the members' adapters fit what is served here, while nobody waits for the lock. One that is not
  // there yet may come with the same upload.
  const std::shared_ptr<const Catalogue> catalogue = Snapshot();
  for (const CardMember& member : card.members) {
    const auto found = catalogue->Resolve(member.expert);
    if (!found.ok() || found->version->is_composite()) continue;
    const std::string name = ToString(member.expert);
    const auto folder = ObjectPath(found->version->adapter);
    if (!folder.ok()) return Annotate(folder.status(), "member " + name);
    ExpertCard alone;
    alone.name = found->entry->name;
    alone.base_digest = found->version->base;
    const Status fits = options_.validate_adapter(*folder, alone).status();
    if (!fits.ok()) return Annotate(WithoutPaths(fits, *folder, "the adapter"), "member " + name);
  }
  return checked;
}

Status ExpertStore::Compose(const Catalogue& catalogue, Checked* checked) const {
  if (checked->card.members.empty()) return absl::OkStatus();
  if (!checked->made_from.empty()) {
    const auto entry = catalogue.Find(checked->card.name);
    if (entry == nullptr || entry->live.adapter != checked->made_from) {
      return absl::AbortedError(
          absl::StrCat("expert ", checked->card.name, " was changed by somebody else meanwhile; try again"));
    }
  }
  ASSIGN_OR_RETURN(checked->members, PinMembers(checked->card, catalogue, options_.base));
  checked->adapter = CompositeDigest(checked->card.mode, checked->members);
  checked->adapter_bytes = 0;
  for (const ExpertMember& member : checked->members) checked->adapter_bytes += member.adapter_bytes;
  if (checked->staging->Has(kPrototypesFile)) return absl::OkStatus();
  std::vector<NamedPrototypes> all;
  for (const CardMember& member : checked->card.members) {
    ASSIGN_OR_RETURN(const Catalogue::Resolved found, catalogue.Resolve(member.expert));
    auto prototypes = ReadPrototypes(found.version->revision);
    if (!prototypes.ok()) return Annotate(prototypes.status(), "member " + found.entry->name);
    all.push_back({found.entry->name, *std::move(prototypes)});
  }
  ASSIGN_OR_RETURN(const std::string file, UniteIntoFile(all, options_.prototype_limits));
  RETURN_IF_ERROR(checked->staging->Append(kPrototypesFile, file));
  RETURN_IF_ERROR(checked->staging->Seal());
  RETURN_IF_ERROR(CheckPrototypes(checked));
  return checked->staging->Flush();
}

}  // namespace coterie
