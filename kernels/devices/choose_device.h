#ifndef COTERIE_KERNELS_DEVICES_CHOOSE_DEVICE_H_
#define COTERIE_KERNELS_DEVICES_CHOOSE_DEVICE_H_

#include <optional>
#include <string>
#include <string_view>

#include "common/status.h"
#include "kernels/devices/inventory.h"

namespace coterie::devices {

// What --device asks for.
struct DeviceRequest {
  enum class Kind { kCpu, kGpu, kAuto };
  Kind kind = Kind::kCpu;
  int index = 0;  // with kGpu

  // "cpu", "auto" or "cuda:N". InvalidArgument saying so.
  static StatusOr<DeviceRequest> Parse(std::string_view text);
};

struct ChosenDevice {
  std::string device = "cpu";  // or "cuda:N"
  std::optional<Gpu> gpu;
  std::string words;  // one line: what it is, and with "auto" why others were passed over
};

// "NVIDIA H200, compute capability 9.0, 141 GB of which 140 GB are free, at 0000:3b:00.0 on NUMA node 0"
std::string Describe(const Gpu& gpu);

// Why this GPU cannot be used and what to do about it, naming it; ok: nothing is known against it.
Status CheckUsable(const Gpu& gpu, const Inventory& inventory, const CudaBuild& build);

// The device asked for, or why it cannot be used. With kAuto the first usable GPU, else the CPU: never an
// error.
StatusOr<ChosenDevice> ChooseDevice(const DeviceRequest& request, const Inventory& inventory,
                                    const CudaBuild& build);

}  // namespace coterie::devices

#endif  // COTERIE_KERNELS_DEVICES_CHOOSE_DEVICE_H_
