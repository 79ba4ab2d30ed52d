#ifndef COTERIE_WORKER_DEVICE_PIN_NEAR_H_
#define COTERIE_WORKER_DEVICE_PIN_NEAR_H_

#include <filesystem>
#include <string>
#include <vector>

#include "kernels/devices/inventory.h"

namespace coterie::worker {

struct NearCores {
  std::vector<int> cores;  // to pin to; empty: leave this process where it is
  std::string words;       // what was decided and why, for the log; may be empty
};

// Of the cores this process may use (`allowed`: affinity and control group), those of the NUMA node that the
// GPU is attached to. Memory that threads there touch first lies there, too, so what is copied to the GPU
// does not cross to another socket. No cores where the GPU has no node, the node none that are allowed, or
// all of `allowed` lie there.
NearCores CoresNear(const devices::Gpu& gpu, const std::vector<int>& allowed,
                    const std::filesystem::path& sysfs);

}  // namespace coterie::worker

#endif  // COTERIE_WORKER_DEVICE_PIN_NEAR_H_
