#include "kernels/devices/inventory.h"

#include <cstdlib>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_format.h"
#include "common/quoted.h"
#include "kernels/devices/bounded_call.h"
#include "kernels/devices/driver_libraries.h"
#include "kernels/devices/numa.h"

namespace coterie::devices {
namespace {

// The names that people and NVML use; a MIG instance has a prefix of its own.
std::string UuidText(const CudaDriver::Uuid& uuid, const char* prefix) {
  std::string text = prefix;
  for (size_t i = 0; i < uuid.size(); ++i) {
    if (i == 4 || i == 6 || i == 8 || i == 10) text += '-';
    absl::StrAppendFormat(&text, "%02x", uuid[i]);
  }
  return text;
}

// What NVML adds to a GPU that the driver shows.
void AddKeepersView(const Nvml& nvml, const CudaDriver::Uuid& uuid, Gpu* gpu) {
  Nvml::Device device = nullptr;
  const int found = nvml.device_by_pci(gpu->pci_bus_id.c_str(), &device);
  gpu->lost = found == Nvml::kGpuIsLost;
  if (found != 0) return;
  unsigned mig_now = 0, mig_later = 0;
  gpu->mig = nvml.mig_mode != nullptr && nvml.mig_mode(device, &mig_now, &mig_later) == 0 && mig_now == 1;
  if (gpu->mig) {
    gpu->uuid = UuidText(uuid, "MIG-");
    if (Nvml::Device instance = nullptr; nvml.device_by_uuid(gpu->uuid.c_str(), &instance) == 0) {
      device = instance;
    }
  }
  Nvml::Memory memory = {};
  const int read = nvml.memory(device, &memory);
  gpu->lost |= read == Nvml::kGpuIsLost;
  if (read == 0) gpu->free_bytes = memory.free;
  unsigned n_processes = 0;
  if (nvml.compute_processes == nullptr) return;
  const int listed = nvml.compute_processes(device, &n_processes, nullptr);
  if (listed == 0 || listed == Nvml::kInsufficientSize) gpu->n_processes = static_cast<int>(n_processes);
}

Gpu ReadGpu(const CudaDriver& driver, const Nvml* nvml, int index, const std::filesystem::path& sysfs) {
  Gpu gpu;
  gpu.index = index;
  int device = 0;
  if (const int error = driver.device(&device, index); error != 0) {
    gpu.readable = absl::UnavailableError(driver.Words(error));
    return gpu;
  }
  char name[256] = {}, pci[32] = {};
  int mode = 0;
  size_t total_bytes = 0;
  CudaDriver::Uuid uuid = {};
  for (const int error :
       {driver.name(name, sizeof(name) - 1, device), driver.attribute(&gpu.major, CudaDriver::kMajor, device),
        driver.attribute(&gpu.minor, CudaDriver::kMinor, device),
        driver.attribute(&mode, CudaDriver::kComputeMode, device), driver.total_memory(&total_bytes, device),
        driver.pci_bus_id(pci, sizeof(pci) - 1, device), driver.uuid(&uuid, device)}) {
    if (error != 0 && gpu.readable.ok()) gpu.readable = absl::UnavailableError(driver.Words(error));
  }
  gpu.name = Shown(name);
  gpu.pci_bus_id = absl::AsciiStrToLower(pci);
  gpu.uuid = UuidText(uuid, "GPU-");
  gpu.total_bytes = total_bytes;
  gpu.mode = mode == 2   ? Gpu::ComputeMode::kProhibited
             : mode == 0 ? Gpu::ComputeMode::kShared
                         : Gpu::ComputeMode::kExclusive;
  gpu.numa_node = NumaNodeOf(gpu.pci_bus_id, sysfs);
  if (nvml != nullptr) AddKeepersView(*nvml, uuid, &gpu);
  return gpu;
}

Status WhyNoInit(const CudaDriver& driver, int error, const Inventory& inventory) {
  const std::string version =
      inventory.driver_version.empty() ? "" : absl::StrCat(" ", inventory.driver_version);
  switch (error) {
    case CudaDriver::kNoDevice:
      if (inventory.n_on_machine > 0 && inventory.visible_devices) {
        return absl::NotFoundError(absl::StrCat("CUDA_VISIBLE_DEVICES=", Shown(*inventory.visible_devices),
                                                " hides all of this machine's ", inventory.n_on_machine,
                                                " GPUs; name those to use, or unset it"));
      }
      return absl::NotFoundError(absl::StrCat("the NVIDIA driver", version, " finds no GPU in this machine"));
    case CudaDriver::kVersionMismatch:
      return absl::FailedPreconditionError(
          "the NVIDIA driver in the kernel and its libraries are of different versions: reboot, or load the "
          "module again");
    case CudaDriver::kStubLibrary:
      return absl::FailedPreconditionError(
          "libcuda.so.1 is the CUDA toolkit's stub for linking, not a driver: take its folder out of "
          "LD_LIBRARY_PATH");
    default:
      return absl::UnavailableError(
          absl::StrCat("the NVIDIA driver", version, " cannot be used: ", driver.Words(error)));
  }
}

Inventory ReadDriver(const InventoryOptions& options) {
  Inventory inventory;
  inventory.visible_devices = options.visible_devices;
  const StatusOr<CudaDriver> driver = CudaDriver::Open(options.driver_folder);
  if (!driver.ok()) {
    inventory.status = absl::IsNotFound(driver.status())
                           ? absl::NotFoundError(absl::StrCat("this machine has no NVIDIA driver (",
                                                              driver.status().message(), ")"))
                           : driver.status();
    return inventory;
  }
  const StatusOr<Nvml> nvml = Nvml::Open(options.driver_folder);
  if (nvml.ok()) {
    char version[96] = {};
    unsigned count = 0;
    if (nvml->driver_version(version, sizeof(version) - 1) == 0) inventory.driver_version = Shown(version);
    if (nvml->device_count(&count) == 0) inventory.n_on_machine = static_cast<int>(count);
  }
  if (const int error = driver->init(0); error != 0) {
    inventory.status = WhyNoInit(*driver, error, inventory);
    return inventory;
  }
  driver->driver_version(&inventory.cuda_version);
  int count = 0;
  const int error = driver->device_count(&count);
  if (error != 0 || count == 0) {
    inventory.status = WhyNoInit(*driver, error == 0 ? CudaDriver::kNoDevice : error, inventory);
    return inventory;
  }
  for (int i = 0; i < count; ++i) {
    inventory.gpus.push_back(ReadGpu(*driver, nvml.ok() ? &*nvml : nullptr, i, options.sysfs));
  }
  return inventory;
}

Inventory EmulatedInventory(int n_devices) {
  Inventory inventory;
  for (int i = 0; i < n_devices; ++i) {
    Gpu gpu;
    gpu.index = i;
    gpu.name = "a GPU emulated on the CPU";
    gpu.major = 9;
    inventory.gpus.push_back(std::move(gpu));
  }
  if (n_devices == 0)
    inventory.status = absl::NotFoundError("no GPU is emulated: COTERIE_EMULATION_DEVICES=0");
  return inventory;
}

}  // namespace

std::string Gpu::Words() const { return absl::StrCat(device(), name.empty() ? "" : " (" + name + ")"); }

std::string Inventory::HiddenWords() const {
  const int n_hidden = n_on_machine - static_cast<int>(gpus.size());
  if (!visible_devices || n_hidden <= 0) return "";
  return absl::StrCat("; CUDA_VISIBLE_DEVICES=", Shown(*visible_devices), " hides ", n_hidden,
                      " of this machine's ", n_on_machine);
}

InventoryOptions InventoryOptions::FromEnvironment() {
  InventoryOptions options;
  // NOLINTBEGIN(concurrency-mt-unsafe): read before any other thread of ours runs.
  if (const char* folder = std::getenv("COTERIE_DRIVER_FOLDER"); folder != nullptr) {
    options.driver_folder = folder;
  }
  if (const char* visible = std::getenv("CUDA_VISIBLE_DEVICES"); visible != nullptr) {
    options.visible_devices = visible;
  }
  if (const char* devices = std::getenv("COTERIE_EMULATION_DEVICES"); devices != nullptr) {
    if (!absl::SimpleAtoi(devices, &options.n_emulated) || options.n_emulated < 0) options.n_emulated = 1;
  }
  // NOLINTEND(concurrency-mt-unsafe)
  return options;
}

Inventory ReadInventory(const InventoryOptions& options, const CudaBuild& build) {
  Inventory none;
  if (build.mode == CudaBuild::Mode::kEmulated) return EmulatedInventory(options.n_emulated);
  if (build.mode == CudaBuild::Mode::kNone) {
    none.status = absl::UnimplementedError("this build has no CUDA (built without nvcc)");
    return none;
  }
  std::optional<Inventory> read = CallWithin(options.timeout, [options] { return ReadDriver(options); });
  if (read) return *std::move(read);
  none.status = absl::DeadlineExceededError(
      absl::StrCat("the NVIDIA driver did not answer within ", absl::FormatDuration(options.timeout),
                   ": see the kernel's log (dmesg) for Xid lines, and nvidia-smi"));
  return none;
}

}  // namespace coterie::devices
