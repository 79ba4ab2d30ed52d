#ifndef COTERIE_MODEL_STORE_FILE_LOCK_H_
#define COTERIE_MODEL_STORE_FILE_LOCK_H_

#include <filesystem>
#include <memory>

#include "absl/time/time.h"
#include "common/status.h"

namespace coterie {

// An exclusive advisory lock (flock) on a file, between processes and between threads alike; the kernel drops
// it when its holder ends, however it ends. Not inherited across exec.
class FileLock {
 public:
  // Waits up to `timeout`; Unavailable naming the file and the wait when someone else keeps it. Creates the
  // file.
  static StatusOr<std::unique_ptr<FileLock>> Acquire(const std::filesystem::path& path,
                                                     absl::Duration timeout);
  // Null when someone else holds it at this moment, or when the file is gone.
  static std::unique_ptr<FileLock> TryExisting(const std::filesystem::path& path);

  ~FileLock();
  FileLock(const FileLock&) = delete;
  FileLock& operator=(const FileLock&) = delete;

 private:
  explicit FileLock(int fd) : fd_(fd) {}
  int fd_;
};

}  // namespace coterie

#endif  // COTERIE_MODEL_STORE_FILE_LOCK_H_
