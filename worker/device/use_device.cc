#include "worker/device/use_device.h"

#include "absl/strings/str_cat.h"
#include "common/cores.h"
#include "common/device_listing.h"
#include "spdlog/spdlog.h"
#include "worker/cores.h"
#include "worker/device/pin_near.h"

namespace coterie::worker {
namespace {

// A fake model stands for any device and computes on none.
devices::CudaBuild BuildFor(const WorkerOptions& options) {
  if (!options.fake) return devices::ThisCudaBuild();
  return {.mode = devices::CudaBuild::Mode::kAny};
}

Status MoveNear(const devices::Gpu& gpu, const WorkerOptions& options, const std::filesystem::path& sysfs) {
  if (!options.cores.empty()) return absl::OkStatus();  // whoever names cores means them
  const NearCores near = CoresNear(gpu, AllowedCores(), sysfs);
  if (near.cores.empty()) {
    if (!near.words.empty()) spdlog::warn("{}", near.words);
    return absl::OkStatus();
  }
  RETURN_IF_ERROR(PinToCores(near.cores));
  spdlog::info("{}", near.words);
  return absl::OkStatus();
}

}  // namespace

StatusOr<devices::ChosenDevice> UseDevice(const WorkerOptions& options,
                                          const devices::InventoryOptions& inventory_options) {
  ASSIGN_OR_RETURN(const devices::DeviceRequest request, devices::DeviceRequest::Parse(options.device));
  if (request.kind == devices::DeviceRequest::Kind::kCpu) return devices::ChosenDevice();
  const devices::CudaBuild build = BuildFor(options);
  const devices::Inventory inventory = devices::ReadInventory(inventory_options, build);
  StatusOr<devices::ChosenDevice> chosen = devices::ChooseDevice(request, inventory, build);
  if (!chosen.ok()) return Annotate(chosen.status(), absl::StrCat("--device=", options.device));
  spdlog::info("{}", chosen->words);
  if (chosen->gpu) RETURN_IF_ERROR(MoveNear(*chosen->gpu, options, inventory_options.sysfs));
  return chosen;
}

std::string ListDevices(const WorkerOptions& options, const devices::InventoryOptions& inventory_options) {
  const devices::CudaBuild build = BuildFor(options);
  const devices::Inventory inventory = devices::ReadInventory(inventory_options, build);
  std::string lines;
  const auto add = [&](const ListedDevice& device) { absl::StrAppend(&lines, DeviceLine(device), "\n"); };
  if (!inventory.status.ok()) add({"cuda", false, std::string(inventory.status.message())});
  for (const devices::Gpu& gpu : inventory.gpus) {
    const Status usable = devices::CheckUsable(gpu, inventory, build);
    add({gpu.device(), usable.ok(), usable.ok() ? devices::Describe(gpu) : std::string(usable.message())});
  }
  add({"cpu", true, absl::StrCat(AllowedCores().size(), " cores")});
  return lines;
}

}  // namespace coterie::worker
