#ifndef COTERIE_COMMON_FILE_DESCRIPTOR_H_
#define COTERIE_COMMON_FILE_DESCRIPTOR_H_

#include <unistd.h>

#include <cstddef>
#include <filesystem>
#include <utility>

#include "common/status.h"

namespace coterie {

// Owns a file descriptor and closes it on every path out; negative: none.
class FileDescriptor {
 public:
  explicit FileDescriptor(int fd) : fd_(fd) {}
  FileDescriptor(FileDescriptor&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  FileDescriptor& operator=(FileDescriptor&&) = delete;
  ~FileDescriptor() {
    if (fd_ >= 0) ::close(fd_);
  }
  int get() const { return fd_; }

 private:
  int fd_;
};

// Opens a regular file and says how large it is. Never waits: a pipe, a device or a folder is InvalidArgument
// at once, also where nobody writes into the pipe. Errors name the path.
StatusOr<FileDescriptor> OpenToRead(const std::filesystem::path& path, size_t* n_bytes);

}  // namespace coterie

#endif  // COTERIE_COMMON_FILE_DESCRIPTOR_H_
