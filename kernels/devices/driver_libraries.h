#ifndef COTERIE_KERNELS_DEVICES_DRIVER_LIBRARIES_H_
#define COTERIE_KERNELS_DEVICES_DRIVER_LIBRARIES_H_

#include <array>
#include <cstddef>
#include <filesystem>

#include "common/status.h"

// What we call of the two libraries that come with NVIDIA's driver, declared here as their C interface is.
// They are found at run time: building needs no header of CUDA's, and a machine without a driver starts all
// the same. Once opened they stay so until the process ends. (Facts: CUDA Driver API and NVML reference
// manuals.)
namespace coterie::devices {

// libcuda.so.1: the devices as computing sees them. Functions return 0 or an error of CudaError.
struct CudaDriver {
  enum Error : int { kStubLibrary = 34, kNoDevice = 100, kVersionMismatch = 803 };
  enum Attribute : int { kComputeMode = 20, kMajor = 75, kMinor = 76 };
  using Uuid = std::array<unsigned char, 16>;

  int (*init)(unsigned flags) = nullptr;
  int (*driver_version)(int* version) = nullptr;  // of CUDA: 1000 * major + 10 * minor
  int (*device_count)(int* count) = nullptr;
  int (*device)(int* device, int index) = nullptr;
  int (*name)(char* name, int n_bytes, int device) = nullptr;
  int (*attribute)(int* value, int attribute, int device) = nullptr;
  int (*total_memory)(size_t* n_bytes, int device) = nullptr;
  int (*pci_bus_id)(char* id, int n_bytes, int device) = nullptr;
  int (*uuid)(Uuid* uuid, int device) = nullptr;
  int (*error_string)(int error, const char** words) = nullptr;

  // From `folder`, or, where it is empty, from where the system looks. NotFound in the loader's words;
  // FailedPrecondition naming the first function that is missing.
  static StatusOr<CudaDriver> Open(const std::filesystem::path& folder);
  std::string Words(int error) const;
};

// libnvidia-ml.so.1: the devices as their keeper sees them. Functions return 0 or an error of NvmlError;
// those that older drivers lack may be null.
struct Nvml {
  enum Error : int { kNotSupported = 3, kInsufficientSize = 7, kGpuIsLost = 15 };
  enum Clock : int { kSmClock = 1, kMemoryClock = 2 };
  enum ErrorKind : int { kCorrected = 0, kUncorrected = 1 };
  static constexpr int kSinceDriverLoaded = 0;  // which errors of memory are counted
  static constexpr int kDieSensor = 0;
  struct OpaqueDevice;
  using Device = OpaqueDevice*;
  struct Memory {
    unsigned long long total, free, used;
  };
  struct Utilisation {
    unsigned gpu, memory;  // percent of the time in which something was computed, or read and written
  };

  int (*init)() = nullptr;
  const char* (*error_string)(int error) = nullptr;
  int (*driver_version)(char* version, unsigned n_bytes) = nullptr;
  int (*device_count)(unsigned* count) = nullptr;
  int (*device_by_pci)(const char* pci_bus_id, Device* device) = nullptr;
  int (*device_by_uuid)(const char* uuid, Device* device) = nullptr;
  int (*memory)(Device device, Memory* memory) = nullptr;
  int (*utilisation)(Device device, Utilisation* utilisation) = nullptr;
  int (*temperature)(Device device, int sensor, unsigned* degrees_celsius) = nullptr;
  int (*power)(Device device, unsigned* milliwatts) = nullptr;
  int (*power_limit)(Device device, unsigned* milliwatts) = nullptr;
  int (*ecc_errors)(Device device, int kind, int since, unsigned long long* count) = nullptr;
  int (*clock)(Device device, int clock, unsigned* megahertz) = nullptr;
  int (*throttle_reasons)(Device device, unsigned long long* reasons) = nullptr;
  int (*mig_mode)(Device device, unsigned* now, unsigned* after_reset) = nullptr;
  // With room for none (*count 0): kInsufficientSize and their number where there are any.
  int (*compute_processes)(Device device, unsigned* count, void* processes) = nullptr;

  // Opened and initialised; as CudaDriver::Open.
  static StatusOr<Nvml> Open(const std::filesystem::path& folder);
  std::string Words(int error) const;
};

}  // namespace coterie::devices

#endif  // COTERIE_KERNELS_DEVICES_DRIVER_LIBRARIES_H_
