#include "common/watched_file.h"

#include <sys/stat.h>

#include <cerrno>

#include "common/file.h"

namespace coterie {
namespace {

constexpr int kLooks = 3;

int64_t Nanoseconds(const timespec& time) { return time.tv_sec * 1'000'000'000 + time.tv_nsec; }

}  // namespace

StatusOr<std::optional<std::string>> WatchedFile::ReadIfChanged() {
  struct stat info {};
  if (stat(path_.c_str(), &info) != 0) {
    n_looks_ = 0;
    return ErrnoStatus(errno, "cannot read", path_);
  }
  const Identity identity = {static_cast<int64_t>(info.st_dev), static_cast<int64_t>(info.st_ino),
                             Nanoseconds(info.st_mtim), Nanoseconds(info.st_ctim), info.st_size};
  if (identity != seen_) n_looks_ = 0;
  if (n_looks_ >= kLooks) return std::optional<std::string>();
  seen_ = identity;
  ASSIGN_OR_RETURN(std::string content, ReadFile(path_, limit_bytes_));
  ++n_looks_;
  if (content_ == content) return std::optional<std::string>();
  content_ = std::move(content);
  return content_;
}

}  // namespace coterie
