#ifndef COTERIE_TESTS_GPU_DRIVERS_STAND_IN_DRIVER_H_
#define COTERIE_TESTS_GPU_DRIVERS_STAND_IN_DRIVER_H_

#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>

namespace coterie {

// A folder with stand-ins for the two libraries of NVIDIA's driver, and the script that they follow: so every
// state of a machine can be tried on one without a GPU. Each folder has its own copies, since the loader
// opens one file once. Lines of the script:
//
//   driver cuda=13000 driver=580.65.06 init=0       what cuInit and the rest say
//          nvml_init=0 cuda_slow_ms=0 nvml_slow_ms=0
//   device cc=90 name=StandIn pci=0000:3B:00.0      one line each; `hidden=1`: known to NVML alone
//          memory_mb=81920 used_mb=1024 mode=0 mig=1 lost=1 processes=2 error=999 busy=40 ...
class StandInDriver {
 public:
  explicit StandInDriver(const std::string& script) {
    std::string pattern = (std::filesystem::temp_directory_path() / "coterie_driver_XXXXXX").string();
    folder_ = mkdtemp(pattern.data());
    for (const char* library : {"libcuda.so.1", "libnvidia-ml.so.1"}) {
      std::filesystem::copy(std::filesystem::path(COTERIE_BINARY_DIR) / "drivers" / library,
                            folder_ / library);
    }
    Write(script);
  }
  ~StandInDriver() { std::filesystem::remove_all(folder_); }
  StandInDriver(const StandInDriver&) = delete;
  StandInDriver& operator=(const StandInDriver&) = delete;

  const std::filesystem::path& folder() const { return folder_; }

  // Another script from now on; readers see the old one or the new.
  void Write(const std::string& script) const {
    std::ofstream(folder_ / "next.txt") << script;
    std::filesystem::rename(folder_ / "next.txt", folder_ / "driver.txt");
  }
  void Remove(const std::string& library) const { std::filesystem::remove(folder_ / library); }

  // A /sys in which the PCI device is on `node`, with these cores.
  std::filesystem::path sysfs() const { return folder_ / "sys"; }
  void PutOnNode(const std::string& pci, int node, const std::string& cores) const {
    const std::filesystem::path device = sysfs() / "bus/pci/devices" / pci;
    std::filesystem::create_directories(device);
    std::ofstream(device / "numa_node") << node << "\n";
    if (node < 0) return;
    const std::filesystem::path folder = sysfs() / "devices/system/node" / ("node" + std::to_string(node));
    std::filesystem::create_directories(folder);
    std::ofstream(folder / "cpulist") << cores << "\n";
  }

 private:
  std::filesystem::path folder_;
};

}  // namespace coterie

#endif  // COTERIE_TESTS_GPU_DRIVERS_STAND_IN_DRIVER_H_
