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
  kThere,     // it was there, undamaged
  kRepaired,  // it was there, damaged, and was replaced
};

// Renames the folder `staged` to `target`, an object named by its digest, unless an undamaged one is there. A
// folder with the same bytes in all `files` is undamaged; for any other, `is_whole` decides (an adapter may
// be written in several ways). A damaged one is replaced in one step where the file system can exchange two
// names, else file by file: readers that verify digests meet the old bytes or the new.
StatusOr<Placed> PlaceFolder(const std::filesystem::path& staged, const std::filesystem::path& target,
                             std::span<const std::string_view> files,
                             const std::function<bool(const std::filesystem::path& target)>& is_whole);

}  // namespace coterie

#endif  // COTERIE_MODEL_STORE_PLACING_H_
