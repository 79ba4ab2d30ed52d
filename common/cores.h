#ifndef COTERIE_COMMON_CORES_H_
#define COTERIE_COMMON_CORES_H_

#include <string_view>
#include <vector>

#include "common/status.h"

namespace coterie {

// The cores that this thread may run on (sched_getaffinity), ascending; none where the system does not say.
std::vector<int> AllowedCores();

// "0-3,8" -> {0, 1, 2, 3, 8}; ascending, each once. InvalidArgument naming the part that is malformed.
StatusOr<std::vector<int>> ParseCoreList(std::string_view list);

}  // namespace coterie

#endif  // COTERIE_COMMON_CORES_H_
