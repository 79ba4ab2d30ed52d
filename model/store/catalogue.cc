#include "model/store/catalogue.h"

#include <utility>

#include "common/quoted.h"

namespace coterie {

Status ValidateCanaryShare(double share) {
  if (share > 0 && share <= 1) return absl::OkStatus();  // NaN falls through
  return absl::InvalidArgumentError(absl::StrCat("canary share ", share, " is not in (0, 1]"));
}

StatusOr<Catalogue::Resolved> Catalogue::Resolve(const ExpertSelector& selector) const {
  std::shared_ptr<const CatalogueEntry> entry = Find(selector.name);
  if (entry == nullptr) {
    return absl::NotFoundError(absl::StrCat("no expert ", Quoted(selector.name),
                                            " in the catalogue (generation ", generation, ", ",
                                            entries.size(), " experts)"));
  }
  const ExpertVersion* found = &entry->live;
  if (selector.digest_prefix.empty()) return Resolved{std::move(entry), found};
  const auto fits = [&](const ExpertVersion& version) {
    return version.adapter.ToHex().compare(0, selector.digest_prefix.size(), selector.digest_prefix) == 0;
  };
  // If several revisions have this adapter, the newest counts: the live one, the canary, then history in its
  // order.
  std::vector<const ExpertVersion*> versions = {&entry->live};
  if (entry->canary.has_value()) versions.push_back(&entry->canary->version);
  for (const ExpertVersion& version : entry->history) versions.push_back(&version);
  found = nullptr;
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
  return Resolved{std::move(entry), found};
}

}  // namespace coterie
