#include "model/store/staging.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <system_error>

#include "common/file.h"
#include "common/file_descriptor.h"
#include "common/quoted.h"

namespace coterie {
namespace fs = std::filesystem;
namespace {

constexpr std::string_view kFiles[] = {kConfigFile, kWeightsFile, kCardFile, kPrototypesFile};

// `sync` is fsync or syncfs.
Status SyncWith(int (*sync)(int), const fs::path& path) {
  const FileDescriptor fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (fd.get() < 0) return ErrnoStatus(errno, "cannot open", path);
  return sync(fd.get()) == 0 ? absl::OkStatus() : ErrnoStatus(errno, "cannot flush", path);
}

}  // namespace

Status SyncFolder(const fs::path& folder) { return SyncWith(::fsync, folder); }
Status SyncFileSystem(const fs::path& folder) { return SyncWith(::syncfs, folder); }

StatusOr<std::shared_ptr<StagingRoom>> StagingRoom::Create(const fs::path& root) {
  std::string path = (root / "XXXXXX").string();
  if (::mkdtemp(path.data()) == nullptr)
    return ErrnoStatus(errno, "cannot create staging folder below", root);
  auto lock = FileLock::Acquire(fs::path(path) / "lock", absl::ZeroDuration());
  if (!lock.ok()) {
    std::error_code ignored;
    fs::remove_all(path, ignored);
    return lock.status();
  }
  return std::shared_ptr<StagingRoom>(new StagingRoom(path, *std::move(lock)));
}

void StagingRoom::RemoveAbandoned(const fs::path& root) {
  const StatusOr<std::vector<fs::path>> found = ListFolder(root);
  if (!found.ok()) return;  // the next publisher tries again
  for (const fs::path& folder : *found) {
    std::error_code ignored;
    // No lock file: its maker died before it could lock, since makers hold the store's lock meanwhile, as we
    // do now; or a cleaner died on it; or it is a catalogue that was never renamed.
    if (!fs::exists(folder / "lock", ignored) || FileLock::TryExisting(folder / "lock") != nullptr) {
      fs::remove_all(folder, ignored);
    }
  }
}

StagingRoom::~StagingRoom() {
  std::error_code ignored;
  fs::remove_all(path_, ignored);
}

StatusOr<std::unique_ptr<StagingFolder>> StagingFolder::Create(std::shared_ptr<StagingRoom> room,
                                                               const Limits& limits) {
  const fs::path path = room->NextPath();
  std::error_code error;
  for (const fs::path& folder : {path, path / "adapter", path / "card"}) {
    if (!error) fs::create_directory(folder, error);
  }
  if (error) return ErrnoStatus(error.value(), "cannot create folder", path);
  return std::unique_ptr<StagingFolder>(new StagingFolder(path, std::move(room), limits));
}

StagingFolder::~StagingFolder() {
  for (const auto& [name, file] : files_) {
    if (file.fd >= 0) ::close(file.fd);
  }
  std::error_code ignored;
  fs::remove_all(path_, ignored);
}

fs::path StagingFolder::PathOf(std::string_view file) const {
  return (file == kConfigFile || file == kWeightsFile ? adapter_folder() : card_folder()) / file;
}

StatusOr<uint64_t> StagingFolder::LimitOf(std::string_view file) const {
  if (file == kConfigFile) return limits_.max_config_bytes;
  if (file == kWeightsFile) return limits_.max_weights_bytes;
  if (file == kCardFile) return limits_.max_card_bytes;
  if (file == kPrototypesFile) return limits_.max_prototypes_bytes;
  return absl::InvalidArgumentError(
      absl::StrCat("file ", Quoted(file), " is not one of an expert's: ", ToAbsl(kConfigFile), ", ",
                   ToAbsl(kWeightsFile), ", ", ToAbsl(kCardFile), ", ", ToAbsl(kPrototypesFile)));
}

Status StagingFolder::Expect(std::string_view file, uint64_t n_bytes) const {
  ASSIGN_OR_RETURN(const uint64_t limit, LimitOf(file));
  if (n_bytes <= limit) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("file ", ToAbsl(file), " has ", n_bytes,
                                                 " bytes, which is more than the limit of ", limit));
}

Status StagingFolder::Append(std::string_view file, std::string_view chunk) {
  ASSIGN_OR_RETURN(const uint64_t limit, LimitOf(file));
  OpenFile& open = files_[std::string(file)];
  if (chunk.size() > limit || open.n_bytes > limit - chunk.size()) {
    return absl::InvalidArgumentError(
        absl::StrCat("file ", ToAbsl(file), " is larger than the limit of ", limit, " bytes"));
  }
  const fs::path path = PathOf(file);
  if (open.fd < 0) {
    open.fd = ::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    if (open.fd < 0) return ErrnoStatus(errno, "cannot create", path);
  }
  while (!chunk.empty()) {
    const ssize_t n = ::write(open.fd, chunk.data(), chunk.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return ErrnoStatus(errno, "cannot write", path);
    open.n_bytes += static_cast<uint64_t>(n);
    chunk.remove_prefix(static_cast<size_t>(n));
  }
  return absl::OkStatus();
}

Status StagingFolder::CopyIn(std::string_view file, const fs::path& source) {
  size_t n_bytes = 0;
  ASSIGN_OR_RETURN(const FileDescriptor fd, OpenToRead(source, &n_bytes));
  std::string chunk(std::min<size_t>(n_bytes + 1, 1 << 20), '\0');
  RETURN_IF_ERROR(Append(file, ""));  // an empty file exists too
  while (true) {
    const ssize_t n = ::read(fd.get(), chunk.data(), chunk.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return ErrnoStatus(errno, "cannot read", source);
    if (n == 0) return absl::OkStatus();
    RETURN_IF_ERROR(Append(file, std::string_view(chunk).substr(0, static_cast<size_t>(n))));
  }
}

Status StagingFolder::Seal() {
  for (auto& [name, file] : files_) {
    if (file.fd < 0) continue;
    // Network file systems report a full disk only here.
    const int closed = ::close(file.fd);
    const int close_error = errno;
    file.fd = -1;
    if (closed != 0) return ErrnoStatus(close_error, "cannot close", PathOf(name));
  }
  return Has(kCardFile) ? absl::OkStatus() : CheckComplete();
}

Status StagingFolder::CheckComplete() const {
  for (const std::string_view name : kFiles) {
    if (Has(name)) continue;
    return absl::FailedPreconditionError(absl::StrCat(
        "file ", ToAbsl(name),
        " is missing; an expert is made of adapter_config.json, adapter_model.safetensors, expert.yaml "
        "and prototypes.safetensors (docs/expert-format.md)"));
  }
  return absl::OkStatus();
}

Status StagingFolder::Flush() const {
  for (const auto& [name, file] : files_) RETURN_IF_ERROR(SyncWith(::fsync, PathOf(name)));
  RETURN_IF_ERROR(SyncFolder(adapter_folder()));
  return SyncFolder(card_folder());
}

uint64_t StagingFolder::n_bytes(std::string_view file) const {
  const auto it = files_.find(file);
  return it == files_.end() ? 0 : it->second.n_bytes;
}

}  // namespace coterie
