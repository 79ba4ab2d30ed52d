#include "model/store/catalogue.h"

#include <algorithm>

#include "common/quoted.h"

namespace coterie {

const CatalogueEntry* Catalogue::Find(std::string_view name) const {
  const auto it = const_cast<Catalogue*>(this)->LowerBound(name);
  return it != entries.end() && it->name == name ? &*it : nullptr;
}

std::vector<CatalogueEntry>::iterator Catalogue::LowerBound(std::string_view name) {
  return std::lower_bound(
      entries.begin(), entries.end(), name,
      [](const CatalogueEntry& entry, std::string_view wanted) { return entry.name < wanted; });
}

Status ValidateCanaryShare(double share) {
  if (share > 0 && share <= 1) return absl::OkStatus();  // NaN falls through
  return absl::InvalidArgumentError(absl::StrCat("canary share ", share, " is not in (0, 1]"));
}

StatusOr<Catalogue::Resolved> Catalogue::Resolve(const ExpertSelector& selector) const {
  const CatalogueEntry* entry = Find(selector.name);
  if (entry == nullptr) {
    return absl::NotFoundError(absl::StrCat("no expert ", Quoted(selector.name),
                                            " in the catalogue (generation ", generation, ", ",
                                            entries.size(), " experts)"));
  }
  if (selector.digest_prefix.empty()) return Resolved{entry, &entry->live};
  const auto fits = [&](const ExpertVersion& version) {
    return version.adapter.ToHex().compare(0, selector.digest_prefix.size(), selector.digest_prefix) == 0;
  };
  // If several revisions have this adapter, the newest counts: the live one, the canary, then history in its
  // order.
  std::vector<const ExpertVersion*> versions = {&entry->live};
  if (entry->canary.has_value()) versions.push_back(&entry->canary->version);
  for (const ExpertVersion& version : entry->history) versions.push_back(&version);
  const ExpertVersion* found = nullptr;
  for (const ExpertVersion* version : versions) {
    if (!fits(*version)) continue;
    if (found == nullptr) {
      found = version;
    } else if (found->adapter != version->adapter) {
      return absl::InvalidArgumentError(absl::StrCat("digest prefix ", selector.digest_prefix, " of expert ",
                                                     selector.name, " fits ", found->adapter.ToHex(), " and ",
                                                     version->adapter.ToHex(), "; give more digits"));
    }
  }
  if (found == nullptr) {
    return absl::NotFoundError(absl::StrCat("expert ", selector.name, " has no version with digest ",
                                            selector.digest_prefix, "; live is ", entry->live.adapter.Short(),
                                            ", ", entry->history.size(), " earlier ones are kept"));
  }
  return Resolved{entry, found};
}

}  // namespace coterie
