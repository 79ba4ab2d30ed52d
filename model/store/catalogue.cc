#include "model/store/catalogue.h"

#include <algorithm>

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

StatusOr<Catalogue::Resolved> Catalogue::Resolve(const ExpertSelector& selector) const {
  const CatalogueEntry* entry = Find(selector.name);
  if (entry == nullptr) {
    return absl::NotFoundError(absl::StrCat("no expert \"", selector.name, "\" in the catalogue (generation ",
                                            generation, ", ", entries.size(), " experts)"));
  }
  if (selector.digest_prefix.empty()) return Resolved{entry, &entry->live};
  const auto fits = [&](const ExpertVersion& version) {
    return version.adapter.ToHex().compare(0, selector.digest_prefix.size(), selector.digest_prefix) == 0;
  };
  // Of several revisions of one adapter the newest is meant: the live one, then history in its order.
  const ExpertVersion* found = fits(entry->live) ? &entry->live : nullptr;
  for (const ExpertVersion& version : entry->history) {
    if (!fits(version)) continue;
    if (found == nullptr) {
      found = &version;
    } else if (found->adapter != version.adapter) {
      return absl::InvalidArgumentError(absl::StrCat("digest prefix ", selector.digest_prefix, " of expert ",
                                                     selector.name, " fits ", found->adapter.ToHex(), " and ",
                                                     version.adapter.ToHex(), "; give more digits"));
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
