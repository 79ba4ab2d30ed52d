#include <algorithm>
#include <system_error>
#include <utility>

#include "common/check.h"
#include "common/file.h"
#include "common/hidden_paths.h"
#include "model/store/expert_store.h"
#include "model/store/placing.h"

// The writing half of ExpertStore: stage and check without any lock, then enter under the store's lock.
namespace coterie {
namespace fs = std::filesystem;
namespace {

constexpr std::string_view kAdapterFiles[] = {kConfigFile, kWeightsFile};
constexpr std::string_view kCardFiles[] = {kCardFile, kPrototypesFile};

// More experts than this are flushed to the disk by one wait for the whole file system, instead of six each.
constexpr size_t kFlushOneByOne = 2;

void RemoveFolders(std::span<const fs::path> paths) {
  std::error_code ignored;
  for (const fs::path& path : paths) fs::remove_all(path, ignored);
}

}  // namespace

Status ExpertStore::CheckWritable() const {
  if (options_.validate_adapter) return absl::OkStatus();
  return absl::FailedPreconditionError(
      absl::StrCat("expert store ", root_.string(), " was opened for reading only"));
}

StatusOr<std::unique_ptr<FileLock>> ExpertStore::LockStore() const {
  RETURN_IF_ERROR(MakeFolders());
  return FileLock::Acquire(root_ / "lock", options_.lock_timeout);
}

StatusOr<std::shared_ptr<StagingRoom>> ExpertStore::NewRoom() {
  RETURN_IF_ERROR(CheckWritable());
  ASSIGN_OR_RETURN(const auto lock, LockStore());
  StagingRoom::RemoveAbandoned(root_ / "staging");
  return StagingRoom::Create(root_ / "staging");
}

StatusOr<ExpertStore::Checked> ExpertStore::Stage(const fs::path& folder,
                                                  std::shared_ptr<StagingRoom> room) const {
  ASSIGN_OR_RETURN(auto staging, StagingFolder::Create(std::move(room), options_.file_limits));
  const StatusOr<std::string> card = ReadFile(folder / kCardFile, options_.card_limits.max_bytes);
  const bool composite = card.ok() && SaysComposite(*card, options_.card_limits);
  std::error_code ignored;
  for (const std::string_view file : {kConfigFile, kWeightsFile, kCardFile, kPrototypesFile}) {
    // It has no adapter, and may have no prototypes.
    if (composite && !fs::exists(fs::symlink_status(folder / file, ignored))) continue;
    RETURN_IF_ERROR(staging->CopyIn(file, folder / file));
  }
  auto checked = Check(std::move(staging));
  if (!checked.ok()) return Annotate(checked.status(), folder.string());
  return checked;
}

Status ExpertStore::CheckPrototypes(Checked* checked) const {
  ASSIGN_OR_RETURN(const std::string bytes, ReadFile(checked->staging->card_folder() / kPrototypesFile,
                                                     options_.prototype_limits.max_bytes));
  ASSIGN_OR_RETURN(const Prototypes prototypes,
                   ParsePrototypes({reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size()},
                                   kPrototypesFile, options_.prototype_limits));
  RETURN_IF_ERROR(CheckPrototypesFit(prototypes, options_.prototype_dim, options_.embedder));
  checked->n_prototypes = static_cast<uint32_t>(prototypes.n);
  checked->embedder = prototypes.embedder_digest;
  ASSIGN_OR_RETURN(const std::string yaml,
                   ReadFile(checked->staging->card_folder() / kCardFile, options_.card_limits.max_bytes));
  checked->revision = Hasher().UpdateField("coterie/card/1").UpdateField(yaml).UpdateField(bytes).Finish();
  return absl::OkStatus();
}

StatusOr<ExpertStore::Checked> ExpertStore::Check(std::unique_ptr<StagingFolder> staging) const {
  RETURN_IF_ERROR(staging->Seal());
  Checked checked;
  ASSIGN_OR_RETURN(const std::string yaml,
                   ReadFile(staging->card_folder() / kCardFile, options_.card_limits.max_bytes));
  ASSIGN_OR_RETURN(checked.card, ParseExpertCard(yaml, kCardFile, options_.card_limits));
  checked.staging = std::move(staging);
  if (!checked.card.members.empty()) return CheckComposite(std::move(checked));
  RETURN_IF_ERROR(checked.staging->CheckComplete());
  RETURN_IF_ERROR(CheckPrototypes(&checked));
  const fs::path folder = checked.staging->adapter_folder();
  auto adapter = options_.validate_adapter(folder, checked.card);
  if (!adapter.ok()) {
    // Files are named as in the expert's own folder: where they are staged says nothing to who sent them.
    return Annotate(WithoutPaths(adapter.status(), folder, "the adapter"), "expert " + checked.card.name);
  }
  COTERIE_CHECK(!adapter->empty()) << "the validator gave no digest: ";
  checked.adapter = *adapter;
  checked.adapter_bytes = checked.staging->n_bytes(kWeightsFile);
  return checked;
}

Status ExpertStore::Place(const Checked& checked, std::vector<fs::path>* placed, bool* repaired) const {
  const auto place = [&](const fs::path& staged, const fs::path& target,
                         std::span<const std::string_view> files,
                         const std::function<bool(const fs::path&)>& is_whole) -> Status {
    ASSIGN_OR_RETURN(const Placed how, PlaceFolder(staged, target, files, is_whole));
    if (how == Placed::kNew) placed->push_back(target);
    *repaired |= how == Placed::kRepaired;
    std::error_code ignored;
    fs::remove(root_ / "unused" / target.filename(), ignored);
    return absl::OkStatus();
  };
  if (checked.members.empty()) {
    RETURN_IF_ERROR(place(checked.staging->adapter_folder(), root_ / "objects" / checked.adapter.ToHex(),
                          kAdapterFiles, [&](const fs::path& target) {
                            const auto digest = options_.validate_adapter(target, checked.card);
                            return digest.ok() && *digest == checked.adapter;
                          }));
  }
  // A card's digest is that of its bytes.
  return place(checked.staging->card_folder(), root_ / "cards" / checked.revision.ToHex(), kCardFiles,
               [](const fs::path&) { return false; });
}

StatusOr<PublishResult> ExpertStore::Enter(const Checked& checked, Catalogue* next,
                                           std::vector<fs::path>* placed) const {
  const ExpertVersion version{.adapter = checked.adapter,
                              .revision = checked.revision,
                              .version = checked.card.version,
                              .adapter_bytes = checked.adapter_bytes,
                              .published_unix = absl::ToUnixSeconds(options_.now()),
                              .base = checked.card.base_digest,
                              .embedder = checked.embedder,
                              .mode = checked.card.mode,
                              .members = checked.members};
  PublishResult result{.expert = {checked.card.name, version.adapter, version.revision},
                       .generation = next->generation};
  RETURN_IF_ERROR(Place(checked, placed, &result.repaired));
  std::string now, already;
  if (checked.canary_share.has_value()) {
    RETURN_IF_ERROR(EnterCanary(checked.card.name, {version, *checked.canary_share}, next, &result.changed));
    const std::string canary =
        absl::StrCat(checked.card.name, " ", version.version, " (", version.adapter.Short(),
                     ") is the canary with share ", *checked.canary_share);
    now = absl::StrCat("published ", canary, " (generation ", next->generation, ")");
    already = absl::StrCat("nothing changed: ", canary, " already");
  } else {
    RETURN_IF_ERROR(EnterVersion(checked.card, version, checked.n_prototypes, next, &result.changed));
    now = absl::StrCat("published ", checked.card.name, " ", version.version, " as ", version.adapter.Short(),
                       " (generation ", next->generation, ")");
    already = absl::StrCat(checked.card.name, " ", version.version, " (", version.adapter.Short(),
                           ") is live already; nothing changed");
  }
  // Files that the catalogue named were missing and were put there again.
  result.repaired |= !result.changed && !placed->empty();
  result.words = result.changed ? now : already;
  if (result.repaired)
    absl::StrAppend(&result.words, "; its files in the store were damaged and are whole again");
  return result;
}

Status ExpertStore::FlushStaged(std::span<const StatusOr<Checked>> experts, size_t n_good) const {
  if (n_good > kFlushOneByOne) return SyncFileSystem(root_ / "staging");
  Status flushed;
  for (const auto& expert : experts) {
    if (expert.ok()) flushed.Update(expert->staging->Flush());
  }
  return flushed;
}

std::vector<StatusOr<PublishResult>> ExpertStore::Commit(std::vector<StatusOr<Checked>> experts) {
  std::vector<StatusOr<PublishResult>> results;
  const auto refuse_all = [&](const Status& why) {
    results.clear();
    for (const auto& expert : experts) results.push_back(expert.ok() ? why : expert.status());
    return std::move(results);
  };
  const auto n_good = static_cast<size_t>(
      std::count_if(experts.begin(), experts.end(), [](const auto& e) { return e.ok(); }));
  if (n_good == 0) return refuse_all(absl::OkStatus());
  const Status flushed = FlushStaged(experts, n_good);  // before the lock: this is the longest wait
  if (!flushed.ok()) return refuse_all(flushed);
  auto store = LockCatalogue();
  if (!store.ok()) return refuse_all(store.status());

  const uint64_t generation = store->catalogue.generation;
  store->catalogue.generation = generation + 1;
  std::vector<fs::path> all_placed;
  bool any_changed = false, any_repaired = false;
  const auto enter = [&](StatusOr<Checked>* expert, StatusOr<PublishResult>* result) {
    if (!expert->ok()) return;
    if (const Status status = Compose(store->catalogue, &**expert); !status.ok()) {
      *result = status;
      return;
    }
    std::vector<fs::path> placed;
    *result = Enter(**expert, &store->catalogue, &placed);
    if (!result->ok()) return RemoveFolders(placed);
    all_placed.insert(all_placed.end(), placed.begin(), placed.end());
    any_changed |= (*result)->changed;
    any_repaired |= (*result)->repaired;
  };
  // Composite experts last: their members may come with them.
  for (const auto& expert : experts) {
    results.push_back(expert.ok() ? StatusOr<PublishResult>(PublishResult()) : expert.status());
  }
  for (const bool composite : {false, true}) {
    for (size_t i = 0; i < experts.size(); ++i) {
      if (experts[i].ok() && !experts[i]->card.members.empty() == composite) enter(&experts[i], &results[i]);
    }
  }
  bool in_doubt = false;
  Status status;
  if (any_changed || any_repaired) {
    // The catalogue may name only what would survive a power failure.
    status.Update(SyncFolder(root_ / "objects"));
    status.Update(SyncFolder(root_ / "cards"));
  }
  if (any_changed && status.ok()) status = WriteCatalogue(std::move(store->catalogue), &in_doubt);
  if (!status.ok()) {
    // Where readers may see the new generation its objects must stay; if nobody does, garbage collection
    // finds them.
    if (!in_doubt && any_changed) RemoveFolders(all_placed);
    return refuse_all(status);
  }
  for (auto& result : results) {
    if (result.ok() && !any_changed) result->generation = generation;
  }
  return results;
}

StatusOr<PublishResult> ExpertStore::Publish(const fs::path& folder, std::optional<double> canary_share) {
  if (canary_share.has_value()) RETURN_IF_ERROR(ValidateCanaryShare(*canary_share));
  ASSIGN_OR_RETURN(std::shared_ptr<StagingRoom> room, NewRoom());
  std::vector<StatusOr<Checked>> one;
  one.push_back(Stage(folder, std::move(room)));
  if (one[0].ok()) one[0]->canary_share = canary_share;
  return std::move(Commit(std::move(one))[0]);
}

std::vector<StatusOr<PublishResult>> ExpertStore::PublishAll(std::span<const fs::path> folders) {
  const auto room = NewRoom();
  if (!room.ok()) return {folders.size(), StatusOr<PublishResult>(room.status())};
  std::vector<StatusOr<Checked>> experts;
  for (const fs::path& folder : folders) experts.push_back(Stage(folder, *room));
  return Commit(std::move(experts));
}

}  // namespace coterie
