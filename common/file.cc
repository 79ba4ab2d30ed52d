#include "common/file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <system_error>
#include <utility>

#include "common/file_descriptor.h"
#include "common/mapping_guard.h"

namespace coterie {
namespace {

Status WriteAll(int fd, std::string_view content, const std::filesystem::path& path) {
  while (!content.empty()) {
    const ssize_t n = ::write(fd, content.data(), content.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return ErrnoStatus(errno, "cannot write", path);
    content.remove_prefix(static_cast<size_t>(n));
  }
  return absl::OkStatus();
}

std::filesystem::path FolderOf(const std::filesystem::path& path) {
  return path.has_parent_path() ? path.parent_path() : ".";
}

// A new file in `folder`, of the pieces one behind the other.
StatusOr<std::filesystem::path> WritePieces(const std::filesystem::path& folder,
                                            std::span<const std::string_view> pieces, bool flush) {
  std::string temporary = (folder / "new-XXXXXX").string();
  const int fd = ::mkostemp(temporary.data(), O_CLOEXEC);
  if (fd < 0) return ErrnoStatus(errno, "cannot create", temporary);
  Status status;
  for (const std::string_view piece : pieces) {
    if (status.ok()) status = WriteAll(fd, piece, temporary);
  }
  if (status.ok() && flush && ::fsync(fd) != 0) status = ErrnoStatus(errno, "cannot flush", temporary);
  if (status.ok() && ::fchmod(fd, 0644) != 0) status = ErrnoStatus(errno, "cannot chmod", temporary);
  // Network file systems report a full disk only here.
  if (::close(fd) != 0 && status.ok()) status = ErrnoStatus(errno, "cannot close", temporary);
  if (status.ok()) return std::filesystem::path(temporary);
  ::unlink(temporary.c_str());
  return status;
}

// Nothing is left of `temporary` either way.
Status RenameOrRemove(const std::filesystem::path& temporary, const std::filesystem::path& path) {
  if (::rename(temporary.c_str(), path.c_str()) == 0) return absl::OkStatus();
  Status status = ErrnoStatus(errno, "cannot rename onto", path);
  ::unlink(temporary.c_str());
  return status;
}

}  // namespace

Status ErrnoStatus(int error_number, std::string_view what, const std::filesystem::path& path) {
  const std::string message =
      absl::StrCat(ToAbsl(what), " ", path.string(), ": ", std::generic_category().message(error_number));
  switch (error_number) {
    case ENOENT:
    case ENOTDIR:
      return absl::NotFoundError(message);
    case EACCES:
    case EPERM:
    case EROFS:
      return absl::PermissionDeniedError(message);
    case ENOSPC:
    case EDQUOT:
    case EFBIG:
    case EMFILE:
    case ENFILE:
      return absl::ResourceExhaustedError(message);
    case EISDIR:
    case ELOOP:
    case ENAMETOOLONG:
      return absl::InvalidArgumentError(message);
    case EEXIST:
      return absl::AlreadyExistsError(message);
    default:
      return absl::InternalError(message);
  }
}

StatusOr<FileDescriptor> OpenToRead(const std::filesystem::path& path, size_t* n_bytes) {
  // Without O_NONBLOCK opening a pipe waits for somebody who writes into it, perhaps for ever.
  FileDescriptor fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (fd.get() < 0) return ErrnoStatus(errno, "cannot open", path);
  struct stat info;
  if (::fstat(fd.get(), &info) != 0) return ErrnoStatus(errno, "cannot stat", path);
  if (!S_ISREG(info.st_mode)) {
    return absl::InvalidArgumentError(absl::StrCat("cannot read ", path.string(), ": not a regular file"));
  }
  *n_bytes = static_cast<size_t>(info.st_size);
  return fd;
}

StatusOr<std::shared_ptr<const MappedFile>> MappedFile::Open(const std::filesystem::path& path) {
  size_t n_bytes = 0;
  ASSIGN_OR_RETURN(const FileDescriptor fd, OpenToRead(path, &n_bytes));
  void* data = nullptr;
  int guard = -1;
  if (n_bytes > 0) {
    data = ::mmap(nullptr, n_bytes, PROT_READ, MAP_PRIVATE, fd.get(), 0);
    if (data == MAP_FAILED) return ErrnoStatus(errno, "cannot map", path);
    guard = GuardMapping(data, n_bytes);
    if (guard < 0) {
      ::munmap(data, n_bytes);
      return absl::ResourceExhaustedError(absl::StrCat("cannot map ", path.string(), ": ",
                                                       kMaxGuardedMappings,
                                                       " files are mapped already, which is the limit"));
    }
  }
  return std::shared_ptr<const MappedFile>(
      new MappedFile(path, static_cast<const uint8_t*>(data), n_bytes, guard));
}

MappedFile::~MappedFile() {
  if (n_bytes_ == 0) return;
  UnguardMapping(guard_);
  ::munmap(const_cast<uint8_t*>(data_), n_bytes_);
}

Status MappedFile::CheckWhole() const {
  if (n_bytes_ == 0 || MappingIsWhole(guard_)) return absl::OkStatus();
  return absl::DataLossError(
      absl::StrCat("file ", path_.string(), " had ", n_bytes_,
                   " bytes when it was opened and lost some while it was read; it must "
                   "not be written in place: put it there anew and start again"));
}

void MappedFile::ReadAhead(std::span<const uint8_t> part) const {
  constexpr size_t kPage = 4096;
  const size_t begin = static_cast<size_t>(part.data() - data_) / kPage * kPage;
  const size_t end = static_cast<size_t>(part.data() + part.size() - data_);
  if (begin < end) ::madvise(const_cast<uint8_t*>(data_ + begin), end - begin, MADV_WILLNEED);
}

void MappedFile::DropPages() const {
  if (n_bytes_ > 0) ::madvise(const_cast<uint8_t*>(data_), n_bytes_, MADV_DONTNEED);
}

StatusOr<std::string> ReadFile(const std::filesystem::path& path, size_t limit_bytes) {
  size_t n_expected = 0;
  ASSIGN_OR_RETURN(const FileDescriptor fd, OpenToRead(path, &n_expected));
  const auto too_large = [&] {
    return absl::InvalidArgumentError(
        absl::StrCat("file ", path.string(), " is larger than the limit of ", limit_bytes, " bytes"));
  };
  if (n_expected > limit_bytes) return too_large();
  std::string content;
  // What fstat said is where reading begins, not where it ends: files of /proc have size 0, others may grow.
  size_t n_bytes = 0;
  while (true) {
    if (n_bytes == content.size()) content.resize(std::max(n_expected, n_bytes + (n_bytes >> 1)) + 1);
    const ssize_t n = ::read(fd.get(), content.data() + n_bytes, content.size() - n_bytes);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return ErrnoStatus(errno, "cannot read", path);
    if (n == 0) break;
    n_bytes += static_cast<size_t>(n);
    if (n_bytes > limit_bytes) return too_large();
  }
  content.resize(n_bytes);
  return content;
}

StatusOr<std::vector<std::filesystem::path>> ListFolder(const std::filesystem::path& folder) {
  std::vector<std::filesystem::path> paths;
  std::error_code error;
  // Not a range-for, whose step to the next entry throws.
  std::filesystem::directory_iterator at(folder, error), end;
  for (; !error && at != end; at.increment(error)) paths.push_back(at->path());
  if (error) return ErrnoStatus(error.value(), "cannot list", folder);
  return paths;
}

StatusOr<std::filesystem::path> WriteTemporary(const std::filesystem::path& folder,
                                               std::string_view content) {
  return WritePieces(folder, {&content, 1}, /*flush=*/true);
}

Status ReplaceFile(const std::filesystem::path& temporary, const std::filesystem::path& path) {
  RETURN_IF_ERROR(RenameOrRemove(temporary, path));
  const FileDescriptor folder(::open(FolderOf(path).c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (folder.get() >= 0) ::fsync(folder.get());
  return absl::OkStatus();
}

Status WriteFileAtomically(const std::filesystem::path& path, std::string_view content) {
  ASSIGN_OR_RETURN(const std::filesystem::path temporary, WriteTemporary(FolderOf(path), content));
  return ReplaceFile(temporary, path);
}

Status WriteCacheFile(const std::filesystem::path& path, std::span<const std::string_view> pieces) {
  ASSIGN_OR_RETURN(const std::filesystem::path temporary,
                   WritePieces(FolderOf(path), pieces, /*flush=*/false));
  return RenameOrRemove(temporary, path);
}

}  // namespace coterie
