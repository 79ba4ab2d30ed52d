#include "worker/device/pin_near.h"

#include <algorithm>
#include <iterator>

#include "absl/strings/str_cat.h"
#include "kernels/devices/numa.h"

namespace coterie::worker {

NearCores CoresNear(const devices::Gpu& gpu, const std::vector<int>& allowed,
                    const std::filesystem::path& sysfs) {
  if (gpu.numa_node < 0) return {};
  const std::vector<int> near = devices::CoresOfNode(gpu.numa_node, sysfs);
  NearCores found;
  std::set_intersection(near.begin(), near.end(), allowed.begin(), allowed.end(),
                        std::back_inserter(found.cores));
  if (found.cores.size() == allowed.size()) return {};
  if (found.cores.empty()) {
    found.words = absl::StrCat("none of the cores of NUMA node ", gpu.numa_node, ", where ", gpu.device(),
                               " is, may be used by this process: it stays where it is, and copies to the "
                               "device cross between sockets");
    return found;
  }
  found.words = absl::StrCat("running on the ", found.cores.size(), " of ", allowed.size(),
                             " cores that are on NUMA node ", gpu.numa_node, ", where ", gpu.device(), " is");
  return found;
}

}  // namespace coterie::worker
