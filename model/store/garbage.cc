#include <string>
#include <system_error>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/numbers.h"
#include "common/file.h"
#include "model/lora/packed_folder.h"
#include "model/store/expert_store.h"

namespace coterie {
namespace fs = std::filesystem;
namespace {

// The time (Unix seconds) a marker holds; `now` and a marker written anew when it holds nothing readable.
StatusOr<int64_t> FirstSeenUnused(const fs::path& marker, int64_t now_unix) {
  const auto text = ReadFile(marker, 64);
  int64_t since = 0;
  if (text.ok() && absl::SimpleAtoi(*text, &since)) return since;
  RETURN_IF_ERROR(WriteFileAtomically(marker, std::to_string(now_unix)));
  return now_unix;
}

}  // namespace

StatusOr<ExpertStore::GarbageReport> ExpertStore::CollectGarbage(absl::Duration grace) {
  RETURN_IF_ERROR(CheckWritable());
  if (grace < absl::ZeroDuration()) return absl::InvalidArgumentError("grace is negative");
  ASSIGN_OR_RETURN(const Locked store, LockCatalogue());
  StagingRoom::RemoveAbandoned(root_ / "staging");
  const Catalogue& catalogue = store.catalogue;
  if (!catalogue.damaged.empty()) {
    return absl::FailedPreconditionError(
        absl::StrCat("nothing is collected: ", catalogue.damaged.size(),
                     " experts of the catalogue cannot be read (", catalogue.damaged.front().why,
                     "), and what they name is unknown; publish them again or remove them"));
  }
  absl::flat_hash_set<Digest> used;
  const auto use = [&](const ExpertVersion& version) {
    used.insert(version.adapter);
    used.insert(version.revision);
    for (const ExpertMember& member : version.members) used.insert(member.adapter);
  };
  for (const CatalogueEntry& entry : catalogue.entries) {
    use(entry.live);
    if (entry.canary.has_value()) use(entry.canary->version);
    for (const ExpertVersion& version : entry.history) use(version);
  }

  GarbageReport report;
  const int64_t now_unix = absl::ToUnixSeconds(options_.now());
  for (const char* kind : {"objects", "cards"}) {
    ASSIGN_OR_RETURN(const std::vector<fs::path> folders, ListFolder(root_ / kind));
    for (const fs::path& folder : folders) {
      const auto digest = Digest::FromHex(folder.filename().string());
      if (!digest.ok()) continue;  // not ours
      const fs::path marker = root_ / "unused" / digest->ToHex();
      std::error_code ignored;
      if (used.contains(*digest)) {
        fs::remove(marker, ignored);
        continue;
      }
      ASSIGN_OR_RETURN(const int64_t since, FirstSeenUnused(marker, now_unix));
      if (absl::Seconds(now_unix - since) < grace) {
        ++report.n_waiting;
        continue;
      }
      // Out of sight in one step, so that no reader meets half a folder; a crash from here on leaves it to
      // the next publisher's cleaning of staging/.
      const fs::path doomed = root_ / "staging" / absl::StrCat("unused-", digest->ToHex());
      fs::rename(folder, doomed, ignored);
      if (ignored) return ErrnoStatus(ignored.value(), "cannot rename", folder);
      fs::remove_all(doomed, ignored);
      fs::remove(marker, ignored);
      ++report.n_removed;
    }
  }
  // Also what a worker has written for an adapter that went while it was loading it.
  PackedFolder::RemoveOrphans(root_ / "packed", [this](const Digest& adapter) {
    std::error_code unknown;
    return fs::exists(root_ / "objects" / adapter.ToHex(), unknown) || unknown;
  });
  return report;
}

}  // namespace coterie
