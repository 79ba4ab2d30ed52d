#include "kernels/devices/driver_libraries.h"

#include <dlfcn.h>

#include <string>

namespace coterie::devices {
namespace {

// A library's functions, by the first of their names that is there.
class Functions {
 public:
  static StatusOr<Functions> Of(const std::filesystem::path& folder, const std::string& library) {
    const std::string path = folder.empty() ? library : (folder / library).string();
    void* handle = ::dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (handle != nullptr) return Functions(handle, library);
    const char* why = ::dlerror();
    return absl::NotFoundError(why == nullptr ? library : why);
  }

  template <typename F>
  void Find(F** function, std::initializer_list<const char*> names) {
    for (const char* name : names) {
      *function = reinterpret_cast<F*>(::dlsym(handle_, name));
      if (*function != nullptr) return;
    }
  }
  template <typename F>
  void Need(F** function, std::initializer_list<const char*> names) {
    Find(function, names);
    if (*function == nullptr && missing_.empty()) missing_ = *names.begin();
  }

  Status HasAll() const {
    if (missing_.empty()) return absl::OkStatus();
    return absl::FailedPreconditionError(
        absl::StrCat(library_, " lacks ", missing_, ": it is of a driver too old to be used, or of none"));
  }

 private:
  Functions(void* handle, std::string library) : handle_(handle), library_(std::move(library)) {}
  void* handle_;
  std::string library_;
  std::string missing_;
};

}  // namespace

StatusOr<CudaDriver> CudaDriver::Open(const std::filesystem::path& folder) {
  ASSIGN_OR_RETURN(Functions library, Functions::Of(folder, "libcuda.so.1"));
  CudaDriver driver;
  library.Need(&driver.init, {"cuInit"});
  library.Need(&driver.driver_version, {"cuDriverGetVersion"});
  library.Need(&driver.device_count, {"cuDeviceGetCount"});
  library.Need(&driver.device, {"cuDeviceGet"});
  library.Need(&driver.name, {"cuDeviceGetName"});
  library.Need(&driver.attribute, {"cuDeviceGetAttribute"});
  library.Need(&driver.total_memory, {"cuDeviceTotalMem_v2"});
  library.Need(&driver.pci_bus_id, {"cuDeviceGetPCIBusId"});
  library.Need(&driver.uuid, {"cuDeviceGetUuid_v2", "cuDeviceGetUuid"});
  library.Need(&driver.error_string, {"cuGetErrorString"});
  RETURN_IF_ERROR(library.HasAll());
  return driver;
}

std::string CudaDriver::Words(int error) const {
  const char* words = nullptr;
  if (error_string(error, &words) != 0 || words == nullptr) words = "no words for it";
  return absl::StrCat(words, " (CUDA error ", error, ")");
}

StatusOr<Nvml> Nvml::Open(const std::filesystem::path& folder) {
  ASSIGN_OR_RETURN(Functions library, Functions::Of(folder, "libnvidia-ml.so.1"));
  Nvml nvml;
  library.Need(&nvml.init, {"nvmlInit_v2"});
  library.Need(&nvml.error_string, {"nvmlErrorString"});
  library.Need(&nvml.driver_version, {"nvmlSystemGetDriverVersion"});
  library.Need(&nvml.device_count, {"nvmlDeviceGetCount_v2"});
  library.Need(&nvml.device_by_pci, {"nvmlDeviceGetHandleByPciBusId_v2"});
  library.Need(&nvml.device_by_uuid, {"nvmlDeviceGetHandleByUUID"});
  library.Need(&nvml.memory, {"nvmlDeviceGetMemoryInfo"});
  library.Find(&nvml.utilisation, {"nvmlDeviceGetUtilizationRates"});
  library.Find(&nvml.temperature, {"nvmlDeviceGetTemperature"});
  library.Find(&nvml.power, {"nvmlDeviceGetPowerUsage"});
  library.Find(&nvml.power_limit, {"nvmlDeviceGetEnforcedPowerLimit"});
  library.Find(&nvml.ecc_errors, {"nvmlDeviceGetTotalEccErrors"});
  library.Find(&nvml.clock, {"nvmlDeviceGetClockInfo"});
  library.Find(&nvml.throttle_reasons,
               {"nvmlDeviceGetCurrentClocksEventReasons", "nvmlDeviceGetCurrentClocksThrottleReasons"});
  library.Find(&nvml.mig_mode, {"nvmlDeviceGetMigMode"});
  library.Find(&nvml.compute_processes,
               {"nvmlDeviceGetComputeRunningProcesses_v3", "nvmlDeviceGetComputeRunningProcesses_v2",
                "nvmlDeviceGetComputeRunningProcesses"});
  RETURN_IF_ERROR(library.HasAll());
  if (const int error = nvml.init(); error != 0) {
    return absl::UnavailableError(absl::StrCat("NVML cannot be used: ", nvml.Words(error)));
  }
  return nvml;
}

std::string Nvml::Words(int error) const {
  const char* words = error_string(error);
  return absl::StrCat(words == nullptr ? "no words for it" : words, " (NVML error ", error, ")");
}

}  // namespace coterie::devices
