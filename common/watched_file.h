#ifndef COTERIE_COMMON_WATCHED_FILE_H_
#define COTERIE_COMMON_WATCHED_FILE_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>

#include "common/status.h"

namespace coterie {

// A small file that others may replace or write over while we run: keys, certificates, secrets. Looked at as
// often as somebody calls; network file systems tell of no changes. Not thread-safe.
class WatchedFile {
 public:
  WatchedFile(std::string path, size_t limit_bytes) : path_(std::move(path)), limit_bytes_(limit_bytes) {}

  // The whole file where its content is not what the last call that returned some saw (at first: always);
  // nothing where it is. An error when it cannot be read, at every call until it can.
  StatusOr<std::optional<std::string>> ReadIfChanged();
  const std::string& path() const { return path_; }

 private:
  // Device, inode, times of modification and change in nanoseconds, size.
  using Identity = std::array<int64_t, 5>;

  const std::string path_;
  const size_t limit_bytes_;
  Identity seen_ = {};
  // A file may be written twice within one tick of the clock that stamps it, so an identity is believed only
  // after a few looks.
  int n_looks_ = 0;
  std::optional<std::string> content_;
};

}  // namespace coterie

#endif  // COTERIE_COMMON_WATCHED_FILE_H_
