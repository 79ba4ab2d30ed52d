#include "kernels/devices/gpu_reader.h"

namespace coterie::devices {
namespace {

// Bits of NVML's answer; 0x1 says that the GPU is idle, which holds down nothing that anybody wants.
constexpr unsigned long long kIdle = 0x1, kPowerCap = 0x4, kHardwareSlowdown = 0x8, kSoftwareThermal = 0x20,
                             kHardwareThermal = 0x40, kPowerBrake = 0x80;

Throttling FromBits(unsigned long long bits) {
  Throttling t;
  t.power = (bits & (kPowerCap | kPowerBrake)) != 0;
  t.thermal = (bits & (kSoftwareThermal | kHardwareThermal)) != 0;
  t.hardware = (bits & kHardwareSlowdown) != 0;
  t.other =
      (bits & ~(kIdle | kPowerCap | kHardwareSlowdown | kSoftwareThermal | kHardwareThermal | kPowerBrake)) !=
      0;
  return t;
}

Status Lost(const Gpu& gpu) {
  return absl::DataLossError(absl::StrCat(gpu.Words(), " has fallen off the bus"));
}

}  // namespace

StatusOr<GpuReader> GpuReader::Open(const std::filesystem::path& driver_folder, const Gpu& gpu) {
  StatusOr<Nvml> nvml = Nvml::Open(driver_folder);
  if (!nvml.ok()) return absl::UnavailableError(nvml.status().message());
  Nvml::Device device = nullptr;
  const int error = gpu.mig ? nvml->device_by_uuid(gpu.uuid.c_str(), &device)
                            : nvml->device_by_pci(gpu.pci_bus_id.c_str(), &device);
  if (error == Nvml::kGpuIsLost) return Lost(gpu);
  if (error != 0) return absl::UnavailableError(absl::StrCat(gpu.Words(), ": ", nvml->Words(error)));
  return GpuReader(*nvml, device);
}

StatusOr<GpuReading> GpuReader::Read() const {
  GpuReading reading;
  bool lost = false;
  // Whether a value came; every function that is there is asked, since each GPU lacks others of them.
  const auto came = [&lost](int error) {
    lost |= error == Nvml::kGpuIsLost;
    return error == 0;
  };
  Nvml::Memory memory = {};
  if (came(nvml_.memory(device_, &memory))) {
    reading.memory_used_bytes = memory.used;
    reading.memory_total_bytes = memory.total;
  }
  Nvml::Utilisation busy = {};
  if (nvml_.utilisation != nullptr && came(nvml_.utilisation(device_, &busy))) {
    reading.busy_ratio = busy.gpu / 100.0;
    reading.memory_busy_ratio = busy.memory / 100.0;
  }
  unsigned value = 0;
  if (nvml_.temperature != nullptr && came(nvml_.temperature(device_, Nvml::kDieSensor, &value))) {
    reading.temperature_celsius = value;
  }
  if (nvml_.power != nullptr && came(nvml_.power(device_, &value))) reading.power_watts = value / 1e3;
  if (nvml_.power_limit != nullptr && came(nvml_.power_limit(device_, &value))) {
    reading.power_limit_watts = value / 1e3;
  }
  if (nvml_.clock != nullptr) {
    if (came(nvml_.clock(device_, Nvml::kSmClock, &value))) reading.sm_clock_hertz = value * 1e6;
    if (came(nvml_.clock(device_, Nvml::kMemoryClock, &value))) reading.memory_clock_hertz = value * 1e6;
  }
  unsigned long long count = 0;
  if (nvml_.ecc_errors != nullptr) {
    constexpr int kSince = Nvml::kSinceDriverLoaded;
    if (came(nvml_.ecc_errors(device_, Nvml::kCorrected, kSince, &count))) reading.ecc_corrected = count;
    if (came(nvml_.ecc_errors(device_, Nvml::kUncorrected, kSince, &count))) reading.ecc_uncorrected = count;
  }
  if (nvml_.throttle_reasons != nullptr && came(nvml_.throttle_reasons(device_, &count))) {
    reading.throttling = FromBits(count);
  }
  if (lost) return absl::DataLossError("the GPU has fallen off the bus (NVML error 15)");
  return reading;
}

}  // namespace coterie::devices
