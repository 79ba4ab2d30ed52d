#ifndef COTERIE_KERNELS_DEVICES_INVENTORY_H_
#define COTERIE_KERNELS_DEVICES_INVENTORY_H_

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "common/status.h"
#include "kernels/devices/cuda_build.h"

namespace coterie::devices {

// A GPU that the driver shows to this process.
struct Gpu {
  enum class ComputeMode { kShared, kExclusive, kProhibited };

  std::string device() const { return "cuda:" + std::to_string(index); }
  // "cuda:0 (NVIDIA H200)"
  std::string Words() const;

  int index = 0;     // CUDA's number of it, which CUDA_VISIBLE_DEVICES shifts
  std::string name;  // "NVIDIA H200"
  int major = 0;     // compute capability
  int minor = 0;
  std::string pci_bus_id;  // "0000:3b:00.0", as in /sys
  std::string uuid;        // "GPU-…", of an instance "MIG-…": what NVML knows it by
  int numa_node = -1;      // -1: none, or not known
  uint64_t total_bytes = 0;
  std::optional<uint64_t> free_bytes;  // as NVML says
  ComputeMode mode = ComputeMode::kShared;
  bool mig = false;     // an instance: a part of a GPU
  bool lost = false;    // it has fallen off the bus
  int n_processes = 0;  // that compute on it already, as far as NVML shows them
  Status readable;      // why the driver tells nothing of it
};

struct Inventory {
  Status status;                               // not ok: why there are no GPUs
  std::string driver_version;                  // "580.65.06"; "" where NVML does not say
  int cuda_version = 0;                        // that the driver speaks: 1000 * major + 10 * minor
  std::vector<Gpu> gpus;                       // by index
  int n_on_machine = 0;                        // as NVML counts; CUDA_VISIBLE_DEVICES may hide some
  std::optional<std::string> visible_devices;  // CUDA_VISIBLE_DEVICES, where it is set

  // "; CUDA_VISIBLE_DEVICES=1 hides 3 of this machine's 4", or nothing.
  std::string HiddenWords() const;
};

struct InventoryOptions {
  // Of this machine. Three variables count: CUDA_VISIBLE_DEVICES; COTERIE_DRIVER_FOLDER, by which tests put
  // libraries of their own in the place of the driver's; and COTERIE_EMULATION_DEVICES, how many GPUs a build
  // that emulates them shows.
  static InventoryOptions FromEnvironment();

  std::filesystem::path driver_folder;  // of libcuda.so.1 and libnvidia-ml.so.1; empty: the system's
  std::filesystem::path sysfs = "/sys";
  std::optional<std::string> visible_devices;
  int n_emulated = 1;
  // The driver may take seconds to wake its devices, and one that hangs never answers.
  absl::Duration timeout = absl::Seconds(60);
};

// What GPUs there are. Creates no context: takes no memory on any of them. Never fails, and returns within
// options.timeout: `status` says why there are none.
Inventory ReadInventory(const InventoryOptions& options, const CudaBuild& build);

}  // namespace coterie::devices

#endif  // COTERIE_KERNELS_DEVICES_INVENTORY_H_
