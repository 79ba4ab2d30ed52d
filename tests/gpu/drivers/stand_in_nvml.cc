// Stands in for libnvidia-ml.so.1: the few functions that an inventory and a monitor call, with NVML's C
// interface and answers out of a script. A device's handle is its number in the script, from 1.
#include "tests/gpu/drivers/script.h"

namespace {

using stand_in::Number;
using stand_in::Script;
using stand_in::Text;
using stand_in::Words;

constexpr int kNotSupported = 3, kNotFound = 6, kInsufficientSize = 7, kGpuIsLost = 15;

// Calls `answer` with the device's words, unless it is lost or lacks `key`.
template <typename Answer>
int WithDevice(void* device, const char* key, Answer answer) {
  const Script script = Script::Read();
  stand_in::SleepMs(Number(script.all, "nvml_slow_ms", 0));
  const auto index = reinterpret_cast<uintptr_t>(device) - 1;
  if (index >= script.devices.size()) return kNotFound;
  const Words& words = script.devices[index];
  if (Number(words, "lost", 0) != 0) return kGpuIsLost;
  if (key != nullptr && !words.contains(key)) return kNotSupported;
  answer(words);
  return 0;
}

int Unsigned(void* device, const char* key, unsigned* value) {
  return WithDevice(device, key,
                    [&](const Words& words) { *value = static_cast<unsigned>(Number(words, key, 0)); });
}

int Count(void* device, const char* key, unsigned long long* value) {
  return WithDevice(device, key, [&](const Words& words) {
    *value = static_cast<unsigned long long>(Number(words, key, 0));
  });
}

}  // namespace

extern "C" {

int nvmlInit_v2() { return static_cast<int>(Number(Script::Read().all, "nvml_init", 0)); }

const char* nvmlErrorString(int error) { return error == 9 ? "Driver Not Loaded" : "an error"; }

int nvmlSystemGetDriverVersion(char* version, unsigned n_bytes) {
  stand_in::Copy(Text(Script::Read().all, "driver", "580.65.06"), version, n_bytes);
  return 0;
}

int nvmlDeviceGetCount_v2(unsigned* count) {
  *count = static_cast<unsigned>(Script::Read().devices.size());
  return 0;
}

int nvmlDeviceGetHandleByPciBusId_v2(const char* pci, void** device) {
  const Script script = Script::Read();
  for (size_t i = 0; i < script.devices.size(); ++i) {
    std::string id = Text(script.devices[i], "pci", "0000:00:00.0");
    for (char& c : id) c = c >= 'A' && c <= 'F' ? static_cast<char>(c - 'A' + 'a') : c;
    if (id != pci) continue;
    *device = reinterpret_cast<void*>(i + 1);
    return Number(script.devices[i], "lost", 0) != 0 ? kGpuIsLost : 0;
  }
  return kNotFound;
}

// Instances are called MIG-..., and the script's only one is its first device.
int nvmlDeviceGetHandleByUUID(const char* uuid, void** device) {
  if (std::string(uuid).rfind("MIG-", 0) != 0) return kNotFound;
  *device = reinterpret_cast<void*>(1);
  return 0;
}

int nvmlDeviceGetMemoryInfo(void* device, unsigned long long* total_free_used) {
  return WithDevice(device, nullptr, [&](const Words& words) {
    const auto total = static_cast<unsigned long long>(Number(words, "memory_mb", 81920)) << 20;
    const auto used = static_cast<unsigned long long>(Number(words, "used_mb", 1024)) << 20;
    total_free_used[0] = total;
    total_free_used[1] = total - used;
    total_free_used[2] = used;
  });
}

int nvmlDeviceGetUtilizationRates(void* device, unsigned* gpu_memory) {
  return WithDevice(device, "busy", [&](const Words& words) {
    gpu_memory[0] = static_cast<unsigned>(Number(words, "busy", 0));
    gpu_memory[1] = static_cast<unsigned>(Number(words, "memory_busy", 0));
  });
}

int nvmlDeviceGetTemperature(void* device, int, unsigned* value) {
  return Unsigned(device, "temperature", value);
}

int nvmlDeviceGetPowerUsage(void* device, unsigned* value) { return Unsigned(device, "power_mw", value); }

int nvmlDeviceGetEnforcedPowerLimit(void* device, unsigned* value) {
  return Unsigned(device, "power_limit_mw", value);
}

int nvmlDeviceGetClockInfo(void* device, int clock, unsigned* value) {
  return Unsigned(device, clock == 1 ? "sm_mhz" : "memory_mhz", value);
}

int nvmlDeviceGetTotalEccErrors(void* device, int kind, int, unsigned long long* count) {
  return Count(device, kind == 0 ? "ecc_corrected" : "ecc_uncorrected", count);
}

int nvmlDeviceGetCurrentClocksThrottleReasons(void* device, unsigned long long* reasons) {
  return Count(device, "throttle", reasons);
}

int nvmlDeviceGetMigMode(void* device, unsigned* now, unsigned* after_reset) {
  *after_reset = 0;
  return Unsigned(device, "mig", now);
}

int nvmlDeviceGetComputeRunningProcesses_v3(void* device, unsigned* count, void*) {
  const int error = WithDevice(device, nullptr, [&](const Words& words) {
    *count = static_cast<unsigned>(Number(words, "processes", 0));
  });
  return error != 0 ? error : *count > 0 ? kInsufficientSize : 0;
}
}
