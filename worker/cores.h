#ifndef COTERIE_WORKER_CORES_H_
#define COTERIE_WORKER_CORES_H_

#include <string_view>
#include <vector>

#include "common/status.h"

namespace coterie::worker {

// ParseCoreList of common/cores.h; its error names --cores.
StatusOr<std::vector<int>> ParseCores(std::string_view list);

// Lets this process, and every thread it starts from now on, run on these cores only. InvalidArgument naming
// the cores the process may use when none of the given is among them.
Status PinToCores(const std::vector<int>& cores);

}  // namespace coterie::worker

#endif  // COTERIE_WORKER_CORES_H_
