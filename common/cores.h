#ifndef COTERIE_COMMON_CORES_H_
#define COTERIE_COMMON_CORES_H_

#include <vector>

namespace coterie {

// The cores that this thread may run on (sched_getaffinity), ascending; none where the system does not say.
std::vector<int> AllowedCores();

}  // namespace coterie

#endif  // COTERIE_COMMON_CORES_H_
