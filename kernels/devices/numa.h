#ifndef COTERIE_KERNELS_DEVICES_NUMA_H_
#define COTERIE_KERNELS_DEVICES_NUMA_H_

#include <filesystem>
#include <string>
#include <vector>

namespace coterie::devices {

// The NUMA node that a PCI device ("0000:3b:00.0") is attached to, as sysfs says; -1 where it does not.
int NumaNodeOf(const std::string& pci_bus_id, const std::filesystem::path& sysfs);

// The cores of a NUMA node, ascending; none where sysfs does not say.
std::vector<int> CoresOfNode(int node, const std::filesystem::path& sysfs);

}  // namespace coterie::devices

#endif  // COTERIE_KERNELS_DEVICES_NUMA_H_
