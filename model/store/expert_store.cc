#include "model/store/expert_store.h"

#include <sys/stat.h>

#include <cerrno>
#include <system_error>
#include <utility>

#include "common/file.h"

namespace coterie {
namespace fs = std::filesystem;

StatusOr<std::unique_ptr<ExpertStore>> ExpertStore::Open(const fs::path& root, ExpertStoreOptions options) {
  const bool create = options.create;
  std::error_code error;
  if (create) {
    for (const char* folder : {"objects", "cards", "staging", "unused"}) {
      fs::create_directories(root / folder, error);
      if (error) return ErrnoStatus(error.value(), "cannot create folder", root / folder);
    }
  } else if (!fs::is_directory(root, error)) {
    return absl::NotFoundError(absl::StrCat("expert store ", root.string(), " is not there or not a folder"));
  }
  std::unique_ptr<ExpertStore> store(new ExpertStore(root, std::move(options)));
  RETURN_IF_ERROR(store->Refresh().status());
  return store;
}

ExpertStore::ExpertStore(fs::path root, ExpertStoreOptions options)
    : root_(fs::absolute(root).lexically_normal()),
      options_(std::move(options)),
      snapshot_(std::make_shared<Catalogue>()) {}

std::shared_ptr<const Catalogue> ExpertStore::Snapshot() const {
  MutexLock lock(&mutex_);
  return snapshot_;
}

StatusOr<ExpertStore::FileIdentity> ExpertStore::Identify() const {
  struct stat info;
  if (::stat(CataloguePath().c_str(), &info) != 0) {
    if (errno == ENOENT) return FileIdentity();
    return ErrnoStatus(errno, "cannot stat", CataloguePath());
  }
  return FileIdentity{.inode = info.st_ino,
                      .mtime_ns = info.st_mtim.tv_sec * int64_t{1'000'000'000} + info.st_mtim.tv_nsec,
                      .n_bytes = info.st_size};
}

StatusOr<bool> ExpertStore::Refresh() {
  MutexLock refresh_lock(&refresh_mutex_);
  // Before the content: a replacement in between shows as a change the next time.
  ASSIGN_OR_RETURN(const FileIdentity identity, Identify());
  if (identity == identity_) return false;
  Catalogue catalogue;
  if (identity.n_bytes >= 0) {
    ASSIGN_OR_RETURN(const std::string json, ReadFile(CataloguePath(), options_.catalogue_limits.max_bytes));
    ASSIGN_OR_RETURN(catalogue, ParseCatalogue(json, CataloguePath().string(), options_.catalogue_limits));
  }
  identity_ = identity;
  MutexLock lock(&mutex_);
  // A smaller number is taken too: then the whole store was replaced.
  if (catalogue.generation == snapshot_->generation) return false;
  snapshot_ = std::make_shared<const Catalogue>(std::move(catalogue));
  return true;
}

StatusOr<Catalogue> ExpertStore::CurrentCatalogue() {
  RETURN_IF_ERROR(Refresh().status());
  return *Snapshot();
}

Status ExpertStore::WriteCatalogue(Catalogue catalogue) {
  MutexLock refresh_lock(&refresh_mutex_);
  RETURN_IF_ERROR(WriteFileAtomically(CataloguePath(), SerializeCatalogue(catalogue)));
  ASSIGN_OR_RETURN(identity_, Identify());
  MutexLock lock(&mutex_);
  snapshot_ = std::make_shared<const Catalogue>(std::move(catalogue));
  return absl::OkStatus();
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
  return ReadFile(root_ / "cards" / revision.ToHex() / kCardFile, options_.card_limits.max_bytes);
}

StatusOr<Prototypes> ExpertStore::ReadPrototypes(const Digest& revision) const {
  const fs::path path = root_ / "cards" / revision.ToHex() / kPrototypesFile;
  ASSIGN_OR_RETURN(const auto file, MappedFile::Open(path));
  return ParsePrototypes(file->bytes(), path.string(), options_.prototype_limits);
}

}  // namespace coterie
