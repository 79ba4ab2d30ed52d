#ifndef COTERIE_KERNELS_DEVICES_GPU_READER_H_
#define COTERIE_KERNELS_DEVICES_GPU_READER_H_

#include <cstdint>
#include <filesystem>
#include <optional>

#include "common/status.h"
#include "kernels/devices/driver_libraries.h"
#include "kernels/devices/inventory.h"

namespace coterie::devices {

// What holds a GPU's clocks down at a moment.
struct Throttling {
  bool power = false;     // its power limit, or the power brake of the machine
  bool thermal = false;   // too hot
  bool hardware = false;  // a slowdown that the hardware forces: heat, power, or a fault
  bool other = false;     // clocks that somebody set, other GPUs in step with it
};

// A GPU at one moment. What it does not measure is left out.
struct GpuReading {
  std::optional<uint64_t> memory_used_bytes;
  std::optional<uint64_t> memory_total_bytes;
  std::optional<double> busy_ratio;         // of the last second or less, in which a kernel ran
  std::optional<double> memory_busy_ratio;  // in which memory was read or written
  std::optional<double> temperature_celsius;
  std::optional<double> power_watts;
  std::optional<double> power_limit_watts;
  std::optional<uint64_t> ecc_corrected;  // errors of memory since the driver was loaded
  std::optional<uint64_t> ecc_uncorrected;
  std::optional<double> sm_clock_hertz;
  std::optional<double> memory_clock_hertz;
  std::optional<Throttling> throttling;
};

// Reads one GPU through NVML. A call may take long, and for ever where the driver hangs: not on a thread that
// anybody waits for. One thread at a time.
class GpuReader {
 public:
  // Unavailable where there is no NVML or it does not know the GPU; of code DataLoss when the GPU is lost.
  static StatusOr<GpuReader> Open(const std::filesystem::path& driver_folder, const Gpu& gpu);

  // DataLoss: the GPU has fallen off the bus.
  StatusOr<GpuReading> Read() const;

 private:
  GpuReader(const Nvml& nvml, Nvml::Device device) : nvml_(nvml), device_(device) {}

  Nvml nvml_;
  Nvml::Device device_;
};

}  // namespace coterie::devices

#endif  // COTERIE_KERNELS_DEVICES_GPU_READER_H_
