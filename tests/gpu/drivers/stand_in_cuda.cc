// Stands in for libcuda.so.1: the few functions that an inventory calls, with the C interface of the CUDA
// Driver API and answers out of a script.
#include <cstddef>

#include "tests/gpu/drivers/script.h"

namespace {

using stand_in::Number;
using stand_in::Script;
using stand_in::Text;
using stand_in::Words;

constexpr int kInvalidDevice = 101;

// Calls `answer` with the words of the device of this number among those that are not hidden.
template <typename Answer>
int WithDevice(int device, Answer answer) {
  for (const Words& words : Script::Read().devices) {
    if (Number(words, "hidden", 0) != 0) continue;
    if (device-- == 0) return answer(words);
  }
  return kInvalidDevice;
}

}  // namespace

extern "C" {

int cuInit(unsigned) {
  const Script script = Script::Read();
  stand_in::SleepMs(Number(script.all, "cuda_slow_ms", 0));
  return static_cast<int>(Number(script.all, "init", 0));
}

int cuDriverGetVersion(int* version) {
  *version = static_cast<int>(Number(Script::Read().all, "cuda", 13000));
  return 0;
}

int cuDeviceGetCount(int* count) {
  *count = 0;
  while (WithDevice(*count, [](const Words&) { return 0; }) == 0) ++*count;
  return 0;
}

int cuDeviceGet(int* device, int index) {
  *device = index;
  return WithDevice(index, [](const Words& words) { return static_cast<int>(Number(words, "error", 0)); });
}

int cuDeviceGetName(char* name, int n_bytes, int device) {
  return WithDevice(device, [&](const Words& words) {
    stand_in::Copy(Text(words, "name", "StandIn"), name, static_cast<size_t>(n_bytes));
    return 0;
  });
}

int cuDeviceGetAttribute(int* value, int attribute, int device) {
  return WithDevice(device, [&](const Words& words) {
    const int64_t capability = Number(words, "cc", 90);
    switch (attribute) {
      case 20:
        *value = static_cast<int>(Number(words, "mode", 0));
        return 0;
      case 75:
        *value = static_cast<int>(capability / 10);
        return 0;
      case 76:
        *value = static_cast<int>(capability % 10);
        return 0;
      default:
        return 1;
    }
  });
}

int cuDeviceTotalMem_v2(size_t* n_bytes, int device) {
  return WithDevice(device, [&](const Words& words) {
    *n_bytes = static_cast<size_t>(Number(words, "memory_mb", 81920)) << 20;
    return 0;
  });
}

int cuDeviceGetPCIBusId(char* id, int n_bytes, int device) {
  return WithDevice(device, [&](const Words& words) {
    stand_in::Copy(Text(words, "pci", "0000:00:00.0"), id, static_cast<size_t>(n_bytes));
    return 0;
  });
}

int cuDeviceGetUuid_v2(unsigned char* uuid, int device) {
  for (int i = 0; i < 16; ++i) uuid[i] = static_cast<unsigned char>(16 * device + i);
  return 0;
}

int cuGetErrorString(int error, const char** words) {
  *words = error == 999 ? "unknown error" : error == kInvalidDevice ? "invalid device ordinal" : nullptr;
  return *words == nullptr ? 1 : 0;
}
}
