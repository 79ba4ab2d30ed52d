#include "model/store/expert_store.h"

#include <system_error>
#include <utility>

#include "common/file.h"
#include "common/hidden_paths.h"

namespace coterie {
namespace fs = std::filesystem;

StatusOr<std::unique_ptr<ExpertStore>> ExpertStore::Open(const fs::path& root, ExpertStoreOptions options) {
  std::unique_ptr<ExpertStore> store(new ExpertStore(root, std::move(options)));
  RETURN_IF_ERROR(store->MakeFolders());
  if (std::error_code error; !fs::is_directory(root, error)) {
    return absl::NotFoundError(absl::StrCat("expert store ", root.string(), " is not there or not a folder"));
  }
  const Status status = store->Refresh().status();
  // What the catalogue lost is said by Health, and stops nobody from starting.
  if (!status.ok() && !store->Health().lost()) return status;
  if (store->options_.create) {
    // Whoever holds the lock keeps a copy itself.
    const auto lock = FileLock::Acquire(root / "lock", absl::ZeroDuration());
    MutexLock refresh_lock(&store->refresh_mutex_);
    if (lock.ok()) store->file_.KeepCopy();
  }
  return store;
}

ExpertStore::ExpertStore(const fs::path& root, ExpertStoreOptions options)
    : root_(fs::absolute(root).lexically_normal()),
      options_(std::move(options)),
      file_(root_, options_.catalogue_limits),
      snapshot_(std::make_shared<Catalogue>()) {}

std::shared_ptr<const Catalogue> ExpertStore::Snapshot() const {
  MutexLock lock(&mutex_);
  return snapshot_;
}

CatalogueHealth ExpertStore::Health() const {
  MutexLock lock(&mutex_);
  return health_;
}

Status ExpertStore::MakeFolders() const {
  if (!options_.create) return absl::OkStatus();
  std::error_code error;
  for (const char* folder : {"objects", "cards", "staging", "unused", "generations"}) {
    fs::create_directories(root_ / folder, error);
    if (error) return ErrnoStatus(error.value(), "cannot create folder", root_ / folder);
  }
  return absl::OkStatus();
}

void ExpertStore::TakeSnapshot() {
  MutexLock lock(&mutex_);
  snapshot_ = file_.current();
  health_ = file_.health();
}

StatusOr<bool> ExpertStore::Refresh() {
  MutexLock refresh_lock(&refresh_mutex_);
  const auto before = file_.current();
  const Status status = file_.Refresh();
  TakeSnapshot();
  RETURN_IF_ERROR(status);
  return file_.current() != before;
}

Status ExpertStore::WriteCatalogue(Catalogue catalogue, bool* in_doubt) {
  bool ignored = false;
  MutexLock refresh_lock(&refresh_mutex_);
  Status status = file_.Write(std::move(catalogue), in_doubt == nullptr ? &ignored : in_doubt);
  TakeSnapshot();
  return status;
}

Status ExpertStore::RestoreCatalogue() {
  RETURN_IF_ERROR(CheckWritable());
  ASSIGN_OR_RETURN(const auto lock, LockStore());
  Status status = Refresh().status();
  if (status.ok()) return absl::OkStatus();
  if (!Health().lost()) return status;
  Catalogue next = *Snapshot();
  ++next.generation;
  return WriteCatalogue(std::move(next));
}

StatusOr<fs::path> ExpertStore::ObjectPath(const Digest& adapter) const {
  const fs::path path = root_ / "objects" / adapter.ToHex();
  std::error_code error;
  if (!fs::is_directory(path, error)) {
    return absl::NotFoundError(absl::StrCat("the expert store has no adapter with digest ", adapter.ToHex()));
  }
  return path;
}

StatusOr<std::string> ExpertStore::ReadCard(const Digest& revision) const {
  auto card = ReadFile(root_ / "cards" / revision.ToHex() / kCardFile, options_.card_limits.max_bytes);
  if (!card.ok()) return WithoutPaths(card.status(), root_, "the expert store");
  return card;
}

StatusOr<Prototypes> ExpertStore::ReadPrototypes(const Digest& revision) const {
  const fs::path path = fs::path("cards") / revision.ToHex() / kPrototypesFile;
  const auto bytes = ReadFile(root_ / path, options_.prototype_limits.max_bytes);
  if (!bytes.ok()) return WithoutPaths(bytes.status(), root_, "the expert store");
  return ParsePrototypes({reinterpret_cast<const uint8_t*>(bytes->data()), bytes->size()}, path.string(),
                         options_.prototype_limits);
}

}  // namespace coterie
