#ifndef COTERIE_COMMON_FILE_H_
#define COTERIE_COMMON_FILE_H_

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "common/status.h"

namespace coterie {

// A read-only mapping of a whole file, unmapped on destruction. Thread-safe to read.
// A file that shrinks under its mapping raises SIGBUS on access: the files we map (base models, store
// objects) are never rewritten in place.
class MappedFile {
 public:
  // NotFound, PermissionDenied or Internal, naming the path; an empty file maps to an empty span.
  static StatusOr<std::shared_ptr<const MappedFile>> Open(const std::filesystem::path& path);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  std::span<const uint8_t> bytes() const { return {data_, n_bytes_}; }
  const std::filesystem::path& path() const { return path_; }
  // Lets the kernel drop the pages (they were packed and will not be read again).
  void DropPages() const;

 private:
  MappedFile(std::filesystem::path path, const uint8_t* data, size_t n_bytes)
      : path_(std::move(path)), data_(data), n_bytes_(n_bytes) {}
  std::filesystem::path path_;
  const uint8_t* data_;
  size_t n_bytes_;
};

// The whole file, refused with InvalidArgument beyond `limit_bytes`.
StatusOr<std::string> ReadFile(const std::filesystem::path& path, size_t limit_bytes);

// Writes a temporary file beside `path`, flushes it to the disk, renames it over `path` and flushes the
// folder: readers see the old content or the new, never a part. On failure nothing is left behind.
Status WriteFileAtomically(const std::filesystem::path& path, std::string_view content);

// errno as the Status of the nearest code, such as NotFound, PermissionDenied, ResourceExhausted (a full
// disk), InvalidArgument (a path that cannot be), else Internal. The message is "<what> <path>: <strerror>".
Status ErrnoStatus(int error_number, std::string_view what, const std::filesystem::path& path);

}  // namespace coterie

#endif  // COTERIE_COMMON_FILE_H_
