#include <algorithm>
#include <memory>
#include <utility>

#include "absl/strings/str_join.h"
#include "common/file.h"
#include "model/store/composite.h"
#include "model/store/expert_store.h"

// Which version of a name is live, which is its canary, and what was before. Everything here runs under the
// store's lock.
namespace coterie {
namespace {

// `name`, or with a digest `name@digest`.
StatusOr<ExpertSelector> SelectVersion(std::string_view name, std::string_view digest_prefix) {
  if (digest_prefix.empty()) return ParseExpertSelector(name);
  return ParseExpertSelector(absl::StrCat(ToAbsl(name), "@", ToAbsl(digest_prefix)));
}

}  // namespace

Status ExpertStore::EnterVersion(const ExpertCard& card, const ExpertVersion& version, uint32_t n_prototypes,
                                 Catalogue* next, bool* changed) const {
  const auto same = [&](const ExpertVersion& other) {
    return other.adapter == version.adapter && other.revision == version.revision;
  };
  const std::shared_ptr<const CatalogueEntry> known = next->Find(card.name);
  // An entry of this name that could not be read: from now on there is a good one.
  const auto lost = [&](const DamagedEntry& damaged) { return damaged.name == card.name; };
  const bool was_damaged = std::any_of(next->damaged.begin(), next->damaged.end(), lost);
  *changed = known == nullptr || !same(known->live) || was_damaged;
  if (!*changed) return absl::OkStatus();
  CatalogueEntry entry{.name = card.name,
                       .live = version,
                       .description = card.description,
                       .tags = card.tags,
                       .licence = card.licence,
                       .min_score = card.min_score,
                       .routing = card.routing,
                       .n_prototypes = n_prototypes};
  if (known != nullptr) {
    // A canary goes on beside whatever is live, unless it is what was published.
    if (known->canary.has_value() && known->canary->version.adapter != version.adapter) {
      entry.canary = known->canary;
    }
    entry.history = known->history;
    entry.history.insert(entry.history.begin(), known->live);
    std::erase_if(entry.history, same);
    if (entry.history.size() > options_.catalogue_limits.max_history) {
      entry.history.resize(options_.catalogue_limits.max_history);
    }
  } else if (next->entries.size() >= options_.catalogue_limits.max_experts) {
    return absl::FailedPreconditionError(
        absl::StrCat("cannot publish expert ", card.name, ": the store holds ", next->entries.size(),
                     " experts, the limit is ", options_.catalogue_limits.max_experts, "; remove one first"));
  }
  // An entry that other processes cannot read would be lost for them.
  RETURN_IF_ERROR(CheckReadable(entry, options_.catalogue_limits));
  next->entries.Put(std::move(entry));
  std::erase_if(next->damaged, lost);
  return absl::OkStatus();
}

Status ExpertStore::EnterCanary(std::string_view name, CatalogueCanary canary, Catalogue* next,
                                bool* changed) {
  const std::shared_ptr<const CatalogueEntry> known = next->Find(name);
  if (known == nullptr) {
    return absl::NotFoundError(absl::StrCat("cannot publish a canary of ", ToAbsl(name),
                                            ": no expert of that name is live; publish it first"));
  }
  if (known->live.adapter == canary.version.adapter) {
    return absl::FailedPreconditionError(absl::StrCat("cannot publish a canary of ", ToAbsl(name),
                                                      ": its adapter ", canary.version.adapter.Short(),
                                                      " is the live one's, so there is nothing to try"));
  }
  *changed = !known->canary.has_value() || known->canary->version.adapter != canary.version.adapter ||
             known->canary->version.revision != canary.version.revision ||
             known->canary->share != canary.share;
  if (!*changed) return absl::OkStatus();
  CatalogueEntry entry = *known;
  entry.canary = std::move(canary);
  next->entries.Put(std::move(entry));
  return absl::OkStatus();
}

StatusOr<ExpertStore::Locked> ExpertStore::LockCatalogue() {
  Locked store;
  ASSIGN_OR_RETURN(store.lock, LockStore());
  if (const Status status = Refresh().status(); !status.ok()) {
    return Health().lost() ? absl::FailedPreconditionError(status.message()) : status;
  }
  store.catalogue = *Snapshot();
  return store;
}

StatusOr<ExpertStore::Locked> ExpertStore::LockToChange(std::string_view name) {
  RETURN_IF_ERROR(CheckWritable());
  RETURN_IF_ERROR(ValidateExpertName(name));
  return LockCatalogue();
}

StatusOr<uint64_t> ExpertStore::Remove(std::string_view name, bool force) {
  ASSIGN_OR_RETURN(Locked store, LockToChange(name));
  if (const auto composites = ComposedOf(store.catalogue, name); !force && !composites.empty()) {
    return absl::FailedPreconditionError(absl::StrCat("expert ", ToAbsl(name), " is a member of ",
                                                      absl::StrJoin(composites, ", "),
                                                      "; remove or change what it is a member of first, or "
                                                      "force it: they go on with the version they have"));
  }
  const bool known = store.catalogue.entries.Erase(name);
  const size_t n_damaged = std::erase_if(
      store.catalogue.damaged, [name](const DamagedEntry& damaged) { return damaged.name == name; });
  if (!known && n_damaged == 0) {
    return store.catalogue.Resolve({.kind = ExpertSelector::Kind::kNamed, .name = std::string(name)})
        .status();
  }
  const uint64_t generation = ++store.catalogue.generation;
  RETURN_IF_ERROR(WriteCatalogue(std::move(store.catalogue)));
  return generation;
}

StatusOr<PublishResult> ExpertStore::MakeLive(std::string_view name, ExpertVersion version,
                                              bool withdraw_live, std::string_view what_happened,
                                              Catalogue catalogue) {
  version.published_unix = absl::ToUnixSeconds(options_.now());
  version.withdrawn = false;
  if (!version.is_composite()) RETURN_IF_ERROR(ObjectPath(version.adapter).status());
  for (const ExpertMember& member : version.members) RETURN_IF_ERROR(ObjectPath(member.adapter).status());
  ASSIGN_OR_RETURN(const std::string yaml, ReadCard(version.revision));
  ASSIGN_OR_RETURN(const ExpertCard card, ParseExpertCard(yaml, kCardFile, options_.card_limits));
  ASSIGN_OR_RETURN(const Prototypes prototypes, ReadPrototypes(version.revision));
  RETURN_IF_ERROR(CheckPrototypesFit(prototypes, options_.prototype_dim, options_.embedder));
  version.embedder = prototypes.embedder_digest;

  PublishResult result{.expert = {card.name, version.adapter, version.revision}};
  ++catalogue.generation;
  RETURN_IF_ERROR(
      EnterVersion(card, version, static_cast<uint32_t>(prototypes.n), &catalogue, &result.changed));
  if (!result.changed) {
    result.generation = catalogue.generation - 1;
    result.words = absl::StrCat(card.name, " ", version.version, " (", version.adapter.Short(),
                                ") is live already; nothing changed");
    return result;
  }
  if (CatalogueEntry entry = *catalogue.Find(name); withdraw_live && !entry.history.empty()) {
    entry.history.front().withdrawn = true;
    catalogue.entries.Put(std::move(entry));
  }
  result.generation = catalogue.generation;
  result.words = absl::StrCat(ToAbsl(what_happened), " ", card.name, " ", version.version, " (",
                              version.adapter.Short(), ", generation ", result.generation, ")");
  RETURN_IF_ERROR(WriteCatalogue(std::move(catalogue)));
  return result;
}

StatusOr<PublishResult> ExpertStore::Promote(std::string_view name, std::string_view digest_prefix) {
  ASSIGN_OR_RETURN(ExpertSelector selector, SelectVersion(name, digest_prefix));
  // Checked, but not to be resolved: a canary that was replaced is in no history any more.
  selector.digest_prefix.clear();
  ASSIGN_OR_RETURN(Locked store, LockToChange(name));
  ASSIGN_OR_RETURN(const Catalogue::Resolved found, store.catalogue.Resolve(selector));
  if (!found.entry->canary.has_value()) {
    return absl::FailedPreconditionError(absl::StrCat("expert ", ToAbsl(name), " has no canary to promote"));
  }
  const ExpertVersion version = found.entry->canary->version;
  if (version.adapter.ToHex().compare(0, digest_prefix.size(), digest_prefix) != 0) {
    return absl::FailedPreconditionError(absl::StrCat("the canary of ", ToAbsl(name), " is ", version.version,
                                                      " (", version.adapter.Short(), "), not ",
                                                      ToAbsl(digest_prefix)));
  }
  return MakeLive(name, version, /*withdraw_live=*/false, "promoted", std::move(store.catalogue));
}

StatusOr<PublishResult> ExpertStore::WithdrawCanary(std::string_view name, Catalogue catalogue) {
  CatalogueEntry entry = *catalogue.Find(name);
  const ExpertVersion canary = entry.canary->version;
  const ExpertVersion live = entry.live;
  PublishResult result{.expert = {entry.name, live.adapter, live.revision}, .changed = true};
  result.generation = ++catalogue.generation;
  result.words = absl::StrCat("withdrew the canary ", canary.version, " (", canary.adapter.Short(), ") of ",
                              entry.name, "; live is ", live.version, " (", live.adapter.Short(),
                              ", generation ", result.generation, ")");
  entry.canary.reset();
  catalogue.entries.Put(std::move(entry));
  RETURN_IF_ERROR(WriteCatalogue(std::move(catalogue)));
  return result;
}

StatusOr<PublishResult> ExpertStore::RollBack(std::string_view name, std::string_view digest_prefix) {
  ASSIGN_OR_RETURN(const ExpertSelector selector, SelectVersion(name, digest_prefix));
  ASSIGN_OR_RETURN(Locked store, LockToChange(name));
  ASSIGN_OR_RETURN(const Catalogue::Resolved resolved, store.catalogue.Resolve(selector));
  ExpertVersion version = *resolved.version;
  // Back to what was rolled back from, or on to the canary: then what is left was no mistake.
  bool withdraw_live = !version.withdrawn && !resolved.is_canary();
  if (digest_prefix.empty()) {
    const CatalogueEntry* entry = resolved.entry.get();
    if (entry->canary.has_value()) return WithdrawCanary(name, std::move(store.catalogue));
    const auto before = std::find_if(entry->history.begin(), entry->history.end(),
                                     [](const ExpertVersion& earlier) { return !earlier.withdrawn; });
    if (before == entry->history.end()) {
      return absl::FailedPreconditionError(absl::StrCat("expert ", ToAbsl(name), " has no version before ",
                                                        version.version, " (", version.adapter.Short(),
                                                        ") to go back to"));
    }
    version = *before;
    withdraw_live = true;
  }
  return MakeLive(name, std::move(version), withdraw_live, "rolled back to", std::move(store.catalogue));
}

}  // namespace coterie
