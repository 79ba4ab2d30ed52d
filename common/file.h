#ifndef COTERIE_COMMON_FILE_H_
#define COTERIE_COMMON_FILE_H_

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "common/status.h"

namespace coterie {

// A read-only mapping of a whole file, unmapped on destruction. Thread-safe to read.
// Where the file shrinks meanwhile, its lost part reads as zeros and CheckWhole says so (mapping_guard.h):
// whoever took something from the mapping asks before using it. Made for base models, which are large; small
// files, and those that others write, are better read (ReadFile).
class MappedFile {
 public:
  // NotFound, PermissionDenied or Internal, naming the path; InvalidArgument for what is no regular file. An
  // empty file maps to an empty span.
  static StatusOr<std::shared_ptr<const MappedFile>> Open(const std::filesystem::path& path);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  std::span<const uint8_t> bytes() const { return {data_, n_bytes_}; }
  const std::filesystem::path& path() const { return path_; }
  // DataLoss naming the file when a part of it was gone when it was read; one atomic load when all is well.
  Status CheckWhole() const;
  // Asks the kernel to read `part` of bytes() from the disk soon. Advice: nothing fails.
  void ReadAhead(std::span<const uint8_t> part) const;
  // Lets the kernel drop the pages (they were packed and will not be read again).
  void DropPages() const;

 private:
  MappedFile(std::filesystem::path path, const uint8_t* data, size_t n_bytes, int guard)
      : path_(std::move(path)), data_(data), n_bytes_(n_bytes), guard_(guard) {}
  std::filesystem::path path_;
  const uint8_t* data_;
  size_t n_bytes_;
  int guard_;  // of mapping_guard.h
};

// The whole file, refused with InvalidArgument beyond `limit_bytes` and when it is a pipe, a device or a
// folder: those are never waited for.
StatusOr<std::string> ReadFile(const std::filesystem::path& path, size_t limit_bytes);

// Paths of what stands in `folder`, in no order. NotFound and so on where it cannot be read, naming it; also
// where the disk fails in the middle.
StatusOr<std::vector<std::filesystem::path>> ListFolder(const std::filesystem::path& folder);

// Writes a temporary file beside `path`, flushes it to the disk, renames it over `path` and flushes the
// folder: readers see the old content or the new, never a part. On failure nothing is left behind.
Status WriteFileAtomically(const std::filesystem::path& path, std::string_view content);
// The two halves of that, for whoever must know which of them failed. WriteTemporary makes a new file of that
// content in `folder`, flushed to the disk, and returns its path; nothing is left when it fails.
StatusOr<std::filesystem::path> WriteTemporary(const std::filesystem::path& folder, std::string_view content);
// Renames `temporary` onto `path` on the same file system and flushes the folder. After an error the
// temporary is gone, and over a network file system `path` may still have been replaced.
Status ReplaceFile(const std::filesystem::path& temporary, const std::filesystem::path& path);
// WriteFileAtomically of pieces, one behind the other, without flushing: after a power failure the file may
// be anything. For what can be made again and is checked when it is read.
Status WriteCacheFile(const std::filesystem::path& path, std::span<const std::string_view> pieces);

// errno as the Status of the nearest code, such as NotFound, PermissionDenied, ResourceExhausted (a full
// disk), InvalidArgument (a path that cannot be), else Internal. The message is "<what> <path>: <strerror>".
Status ErrnoStatus(int error_number, std::string_view what, const std::filesystem::path& path);

}  // namespace coterie

#endif  // COTERIE_COMMON_FILE_H_
