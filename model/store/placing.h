#ifndef COTERIE_MODEL_STORE_PLACING_H_
#define COTERIE_MODEL_STORE_PLACING_H_

#include <filesystem>
#include <functional>
#include <span>
#include <string_view>

#include "common/status.h"

namespace coterie {

enum class Placed {
  kNew,       // it was not there
  kThere,     // it was, whole
  kRepaired,  // it was damaged, and is what was staged now
};

// Renames the folder `staged` to `target`, an object named by its digest, unless a whole one is there. One
// that holds the same `files`, byte by byte, is whole; of another, `is_whole` says so (an adapter may be
// written in several ways). A damaged one is replaced in one step where the file system can exchange two
// names, file by file elsewhere: readers that verify digests meet the old bytes or the new.
StatusOr<Placed> PlaceFolder(const std::filesystem::path& staged, const std::filesystem::path& target,
                             std::span<const std::string_view> files,
                             const std::function<bool(const std::filesystem::path& target)>& is_whole);

}  // namespace coterie

#endif  // COTERIE_MODEL_STORE_PLACING_H_
