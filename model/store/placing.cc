#include "model/store/placing.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <string>
#include <system_error>

#include "common/file.h"
#include "common/file_descriptor.h"
#include "model/store/staging.h"

namespace coterie {
namespace fs = std::filesystem;
namespace {

// Reads up to `n` bytes, fewer only at the end of the file; negative on an error.
ssize_t ReadUpTo(int fd, char* data, size_t n) {
  size_t done = 0;
  while (done < n) {
    const ssize_t got = ::read(fd, data + done, n - done);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return got;
    if (got == 0) break;
    done += static_cast<size_t>(got);
  }
  return static_cast<ssize_t>(done);
}

// False as well when one of them is no regular file or cannot be read.
bool SameContent(const fs::path& a, const fs::path& b) {
  constexpr size_t kChunk = 1 << 18;
  size_t a_bytes = 0, b_bytes = 0;
  const auto a_file = OpenToRead(a, &a_bytes), b_file = OpenToRead(b, &b_bytes);
  if (!a_file.ok() || !b_file.ok() || a_bytes != b_bytes) return false;
  std::string a_chunk(std::min(a_bytes + 1, kChunk), '\0'), b_chunk = a_chunk;
  while (true) {
    const ssize_t n = ReadUpTo(a_file->get(), a_chunk.data(), a_chunk.size());
    if (n < 0 || ReadUpTo(b_file->get(), b_chunk.data(), b_chunk.size()) != n) return false;
    if (n == 0) return true;
    if (!std::equal(a_chunk.begin(), a_chunk.begin() + n, b_chunk.begin())) return false;
  }
}

Status Rename(const fs::path& from, const fs::path& to) {
  if (::rename(from.c_str(), to.c_str()) == 0) return absl::OkStatus();
  return ErrnoStatus(errno, absl::StrCat("cannot rename ", from.string(), " to"), to);
}

Status Replace(const fs::path& staged, const fs::path& target, std::span<const std::string_view> files) {
  std::error_code error;
  if (!fs::is_directory(fs::symlink_status(target, error))) {
    fs::remove(target, error);
    if (error) return ErrnoStatus(error.value(), "cannot remove", target);
    return Rename(staged, target);
  }
  // Leaves the damaged folder in staging, which is removed.
  if (::renameat2(AT_FDCWD, staged.c_str(), AT_FDCWD, target.c_str(), RENAME_EXCHANGE) == 0) {
    return absl::OkStatus();
  }
  for (const std::string_view file : files) {
    const fs::path old = target / file;
    if (fs::is_directory(fs::symlink_status(old, error))) fs::remove_all(old, error);
    RETURN_IF_ERROR(Rename(staged / file, old));
  }
  return SyncFolder(target);
}

}  // namespace

StatusOr<Placed> PlaceFolder(const fs::path& staged, const fs::path& target,
                             std::span<const std::string_view> files,
                             const std::function<bool(const fs::path& target)>& is_whole) {
  std::error_code error;
  if (!fs::exists(fs::symlink_status(target, error))) {
    RETURN_IF_ERROR(Rename(staged, target));
    return Placed::kNew;
  }
  const bool same = std::all_of(files.begin(), files.end(), [&](std::string_view file) {
    return SameContent(staged / file, target / file);
  });
  if (same || is_whole(target)) return Placed::kThere;
  RETURN_IF_ERROR(Replace(staged, target, files));
  return Placed::kRepaired;
}

}  // namespace coterie
