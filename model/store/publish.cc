#include <algorithm>
#include <system_error>
#include <utility>

#include "common/check.h"
#include "common/file.h"
#include "common/hidden_paths.h"
#include "common/utf8.h"
#include "model/store/expert_store.h"

// The writing half of ExpertStore: stage and check without any lock, then enter under the store's lock.
namespace coterie {
namespace fs = std::filesystem;
namespace {

// Each staged expert holds a lock and so a descriptor; this many stay far below the usual limit of 1024.
constexpr size_t kBatch = 64;

// Renames `staged` to `target` unless a complete one is there. Sets *placed when it did.
Status Place(const fs::path& staged, const fs::path& target, std::span<const std::string_view> files,
             bool* placed) {
  *placed = false;
  std::error_code error;
  const auto complete = [&] {
    return std::all_of(files.begin(), files.end(),
                       [&](std::string_view file) { return fs::is_regular_file(target / file, error); });
  };
  if (fs::exists(target, error)) {
    if (complete()) return absl::OkStatus();
    // Somebody deleted by hand: what is left serves nobody.
    fs::remove_all(target, error);
    if (error) return ErrnoStatus(error.value(), "cannot remove", target);
  }
  fs::rename(staged, target, error);
  if (error)
    return ErrnoStatus(error.value(), absl::StrCat("cannot rename ", staged.string(), " to"), target);
  *placed = true;
  return absl::OkStatus();
}

}  // namespace

Status ExpertStore::CheckWritable() const {
  if (options_.validate_adapter) return absl::OkStatus();
  return absl::FailedPreconditionError(
      absl::StrCat("expert store ", root_.string(), " was opened for reading only"));
}

StatusOr<std::unique_ptr<FileLock>> ExpertStore::LockStore() const {
  return FileLock::Acquire(root_ / "lock", options_.lock_timeout);
}

StatusOr<std::unique_ptr<StagingFolder>> ExpertStore::NewStaging() {
  RETURN_IF_ERROR(CheckWritable());
  ASSIGN_OR_RETURN(const auto lock, LockStore());
  StagingFolder::RemoveAbandoned(root_ / "staging");
  return StagingFolder::Create(root_ / "staging", options_.file_limits);
}

StatusOr<ExpertStore::Checked> ExpertStore::Stage(const fs::path& folder, bool flush) {
  ASSIGN_OR_RETURN(auto staging, NewStaging());
  for (const std::string_view file : {kConfigFile, kWeightsFile, kCardFile, kPrototypesFile}) {
    RETURN_IF_ERROR(staging->CopyIn(file, folder / file));
  }
  auto checked = Check(std::move(staging), flush);
  if (!checked.ok()) return Annotate(checked.status(), folder.string());
  return checked;
}

StatusOr<ExpertStore::Checked> ExpertStore::Check(std::unique_ptr<StagingFolder> staging, bool flush) const {
  RETURN_IF_ERROR(staging->Seal(flush));
  Checked checked;
  ASSIGN_OR_RETURN(const std::string yaml,
                   ReadFile(staging->card_folder() / kCardFile, options_.card_limits.max_bytes));
  ASSIGN_OR_RETURN(checked.card, ParseExpertCard(yaml, kCardFile, options_.card_limits));
  ASSIGN_OR_RETURN(const auto file, MappedFile::Open(staging->card_folder() / kPrototypesFile));
  ASSIGN_OR_RETURN(checked.prototypes,
                   ParsePrototypes(file->bytes(), kPrototypesFile, options_.prototype_limits));
  if (options_.prototype_dim != 0 && checked.prototypes.dim != options_.prototype_dim) {
    return absl::InvalidArgumentError(absl::StrCat(ToAbsl(kPrototypesFile), " has dimension ",
                                                   checked.prototypes.dim, ", the embedder here has ",
                                                   options_.prototype_dim));
  }
  const std::string_view prototype_bytes(reinterpret_cast<const char*>(file->bytes().data()),
                                         file->bytes().size());
  checked.revision =
      Hasher().UpdateField("coterie/card/1").UpdateField(yaml).UpdateField(prototype_bytes).Finish();
  auto adapter = options_.validate_adapter(staging->adapter_folder(), checked.card);
  if (!adapter.ok()) {
    // Files are named as in the expert's own folder: where they are staged says nothing to who sent them.
    return Annotate(WithoutPaths(adapter.status(), staging->adapter_folder(), "the adapter"),
                    "expert " + checked.card.name);
  }
  COTERIE_CHECK(!adapter->empty()) << "the validator gave no digest: ";
  checked.adapter = *adapter;
  checked.staging = std::move(staging);
  return checked;
}

StatusOr<PublishResult> ExpertStore::Enter(Checked* checked, Catalogue* next,
                                           std::vector<fs::path>* placed) const {
  const ExpertVersion version{.adapter = checked->adapter,
                              .revision = checked->revision,
                              .version = checked->card.version,
                              .adapter_bytes = checked->staging->n_bytes(kWeightsFile),
                              .published_unix = absl::ToUnixSeconds(options_.now()),
                              .base = checked->card.base_digest};
  PublishResult result{.expert = {checked->card.name, version.adapter, version.revision},
                       .generation = next->generation};
  static constexpr std::string_view kAdapterFiles[] = {kConfigFile, kWeightsFile};
  static constexpr std::string_view kCardFiles[] = {kCardFile, kPrototypesFile};
  const struct {
    fs::path staged, target;
    std::span<const std::string_view> files;
  } moves[] = {
      {checked->staging->adapter_folder(), root_ / "objects" / version.adapter.ToHex(), kAdapterFiles},
      {checked->staging->card_folder(), root_ / "cards" / version.revision.ToHex(), kCardFiles},
  };
  for (const auto& move : moves) {
    bool was_placed = false;
    RETURN_IF_ERROR(Place(move.staged, move.target, move.files, &was_placed));
    if (was_placed) placed->push_back(move.target);
    std::error_code ignored;
    fs::remove(root_ / "unused" / move.target.filename(), ignored);
  }
  if (checked->canary_share.has_value()) {
    RETURN_IF_ERROR(
        EnterCanary(checked->card.name, {version, *checked->canary_share}, next, &result.changed));
    result.words = absl::StrCat(
        result.changed ? "published " : "nothing changed: ", checked->card.name, " ", version.version, " (",
        version.adapter.Short(), ") is the canary with share ", *checked->canary_share,
        result.changed ? absl::StrCat(" (generation ", next->generation, ")") : " already");
    return result;
  }
  RETURN_IF_ERROR(EnterVersion(checked->card, version, static_cast<uint32_t>(checked->prototypes.n), next,
                               &result.changed));
  result.words = result.changed
                     ? absl::StrCat("published ", checked->card.name, " ", version.version, " as ",
                                    version.adapter.Short(), " (generation ", next->generation, ")")
                     : absl::StrCat(checked->card.name, " ", version.version, " (", version.adapter.Short(),
                                    ") is live already; nothing changed");
  return result;
}

std::vector<StatusOr<PublishResult>> ExpertStore::Commit(std::vector<StatusOr<Checked>> experts) {
  std::vector<StatusOr<PublishResult>> results;
  const auto refuse_all = [&](const Status& why) {
    results.clear();
    for (const auto& expert : experts) results.push_back(expert.ok() ? why : expert.status());
    return std::move(results);
  };
  if (std::none_of(experts.begin(), experts.end(), [](const auto& expert) { return expert.ok(); })) {
    return refuse_all(absl::OkStatus());
  }
  auto store = LockCatalogue();
  if (!store.ok()) return refuse_all(store.status());

  const uint64_t generation = store->catalogue.generation;
  store->catalogue.generation = generation + 1;
  const auto remove = [](std::span<const fs::path> paths) {
    std::error_code ignored;
    for (const fs::path& path : paths) fs::remove_all(path, ignored);
  };
  std::vector<fs::path> all_placed;
  bool any_changed = false;
  for (auto& expert : experts) {
    if (!expert.ok()) {
      results.push_back(expert.status());
      continue;
    }
    std::vector<fs::path> placed;
    results.push_back(Enter(&*expert, &store->catalogue, &placed));
    if (!results.back().ok()) {
      remove(placed);
      continue;
    }
    all_placed.insert(all_placed.end(), placed.begin(), placed.end());
    any_changed |= results.back()->changed;
  }
  if (any_changed) {
    // The catalogue may name only what would survive a power failure.
    Status status = SyncFolder(root_ / "objects");
    status.Update(SyncFolder(root_ / "cards"));
    status.Update(status.ok() ? WriteCatalogue(std::move(store->catalogue)) : status);
    if (!status.ok()) {
      remove(all_placed);
      return refuse_all(status);
    }
  }
  for (auto& result : results) {
    if (result.ok() && !any_changed) result->generation = generation;
  }
  return results;
}

StatusOr<PublishResult> ExpertStore::Publish(const fs::path& folder, std::optional<double> canary_share) {
  if (canary_share.has_value()) RETURN_IF_ERROR(ValidateCanaryShare(*canary_share));
  std::vector<StatusOr<Checked>> one;
  one.push_back(Stage(folder, /*flush=*/true));
  if (one[0].ok()) one[0]->canary_share = canary_share;
  return std::move(Commit(std::move(one))[0]);
}

std::vector<StatusOr<PublishResult>> ExpertStore::PublishAll(std::span<const fs::path> folders) {
  std::vector<StatusOr<PublishResult>> results;
  for (size_t begin = 0; begin < folders.size(); begin += kBatch) {
    std::vector<StatusOr<Checked>> batch;
    for (const fs::path& folder : folders.subspan(begin, std::min(kBatch, folders.size() - begin))) {
      batch.push_back(Stage(folder, /*flush=*/false));
    }
    if (const Status status = SyncFileSystem(root_ / "staging"); !status.ok()) {
      for (auto& expert : batch) {
        if (expert.ok()) expert = status;
      }
    }
    for (auto& result : Commit(std::move(batch))) results.push_back(std::move(result));
  }
  return results;
}

StatusOr<std::unique_ptr<ExpertStore::Upload>> ExpertStore::BeginUpload() {
  {
    MutexLock lock(&mutex_);
    if (n_uploads_ >= options_.max_uploads) {
      return absl::ResourceExhaustedError(absl::StrCat(
          n_uploads_, " experts are being published already, the limit is ", options_.max_uploads));
    }
    ++n_uploads_;
  }
  auto staging = NewStaging();
  if (!staging.ok()) {
    MutexLock lock(&mutex_);
    --n_uploads_;
    return staging.status();
  }
  return std::unique_ptr<Upload>(new Upload(this, *std::move(staging)));
}

ExpertStore::Upload::~Upload() {
  MutexLock lock(&store_->mutex_);
  --store_->n_uploads_;
}

StatusOr<PublishResult> ExpertStore::Upload::Commit(std::string_view expected_name,
                                                    std::optional<double> canary_share) {
  if (staging_ == nullptr) return absl::FailedPreconditionError("this upload was committed before");
  if (canary_share.has_value()) RETURN_IF_ERROR(ValidateCanaryShare(*canary_share));
  std::vector<StatusOr<Checked>> one;
  one.push_back(store_->Check(std::move(staging_), /*flush=*/true));
  if (one[0].ok() && !expected_name.empty() && one[0]->card.name != expected_name) {
    return absl::InvalidArgumentError(
        absl::StrCat("the card names expert ", one[0]->card.name, ", the request publishes \"",
                     ToAbsl(CutUtf8(expected_name, 80)),
                     "\"; ask for the card's name or change field name of ", ToAbsl(kCardFile)));
  }
  if (one[0].ok()) one[0]->canary_share = canary_share;
  return std::move(store_->Commit(std::move(one))[0]);
}

}  // namespace coterie
