#include "model/store/file_lock.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "absl/time/clock.h"
#include "common/clock.h"
#include "common/file.h"

namespace coterie {
namespace {

bool IsFileAt(int fd, const std::filesystem::path& path) {
  struct stat opened, there;
  return ::fstat(fd, &opened) == 0 && ::stat(path.c_str(), &there) == 0 && opened.st_dev == there.st_dev &&
         opened.st_ino == there.st_ino;
}

}  // namespace

StatusOr<std::unique_ptr<FileLock>> FileLock::Acquire(const std::filesystem::path& path,
                                                      absl::Duration timeout) {
  const MonotonicTime deadline = MonotonicNow() + timeout;
  // A blocking flock could not be bounded; holders keep it for milliseconds.
  absl::Duration pause = absl::Milliseconds(1);
  while (true) {
    const int fd = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NONBLOCK, 0644);
    if (fd < 0) return ErrnoStatus(errno, "cannot open lock", path);
    std::unique_ptr<FileLock> lock(new FileLock(fd));  // closes on every way out
    if (::flock(fd, LOCK_EX | LOCK_NB) == 0) {
      if (IsFileAt(fd, path)) return lock;
      // The folder was removed and made anew meanwhile: others lock another file of that name.
    } else if (errno != EWOULDBLOCK && errno != EINTR) {
      return ErrnoStatus(errno, "cannot lock", path);
    }
    if (MonotonicNow() >= deadline) {
      return absl::UnavailableError(absl::StrCat("lock ", path.string(), " was held by another process for ",
                                                 absl::FormatDuration(timeout)));
    }
    absl::SleepFor(pause);
    pause = std::min(pause * 2, absl::Milliseconds(20));
  }
}

std::unique_ptr<FileLock> FileLock::TryExisting(const std::filesystem::path& path) {
  const int fd = ::open(path.c_str(), O_RDWR | O_CLOEXEC);
  if (fd < 0) return nullptr;
  std::unique_ptr<FileLock> lock(new FileLock(fd));
  return ::flock(fd, LOCK_EX | LOCK_NB) == 0 ? std::move(lock) : nullptr;
}

FileLock::~FileLock() { ::close(fd_); }

}  // namespace coterie
