#ifndef COTERIE_COMMON_FILE_DESCRIPTOR_H_
#define COTERIE_COMMON_FILE_DESCRIPTOR_H_

#include <unistd.h>

#include <cstddef>
#include <filesystem>
#include <utility>

#include "common/status.h"

namespace coterie {

// Owns a descriptor (of a file, a socket, ...) and closes it on every path out; negative: none.
class FileDescriptor {
 public:
  FileDescriptor() = default;
  explicit FileDescriptor(int fd) : fd_(fd) {}
  FileDescriptor(FileDescriptor&& other) noexcept : fd_(other.Release()) {}
  FileDescriptor& operator=(FileDescriptor&& other) noexcept {
    FileDescriptor closes(std::exchange(fd_, other.Release()));
    return *this;
  }
  ~FileDescriptor() {
    if (fd_ >= 0) ::close(fd_);
  }
  int get() const { return fd_; }
  // The caller owns it from here on.
  int Release() { return std::exchange(fd_, -1); }

 private:
  int fd_ = -1;
};

// Opens a regular file and says how large it is. Never waits: a pipe, a device or a folder is InvalidArgument
// at once, also where nobody writes into the pipe. Errors name the path.
StatusOr<FileDescriptor> OpenToRead(const std::filesystem::path& path, size_t* n_bytes);

}  // namespace coterie

#endif  // COTERIE_COMMON_FILE_DESCRIPTOR_H_
