#include "kernels/devices/choose_device.h"

#include "absl/strings/numbers.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "common/memory.h"
#include "common/quoted.h"

namespace coterie::devices {
namespace {

constexpr int kLeastMajor = 8;  // Ampere: bfloat16 in the tensor cores, asynchronous copies
constexpr int kMaxIndex = 1023;

std::string Capability(const Gpu& gpu) { return absl::StrCat(gpu.major, ".", gpu.minor); }

Status CheckDriver(const Gpu& gpu, const Inventory& inventory, const CudaBuild& build) {
  // Within one major version a driver runs what later toolkits made.
  if (inventory.cuda_version / 1000 >= build.toolkit_version / 1000) return absl::OkStatus();
  const std::string version =
      inventory.driver_version.empty() ? "" : absl::StrCat(" ", inventory.driver_version);
  return absl::FailedPreconditionError(absl::StrCat(
      gpu.Words(), ": the NVIDIA driver", version, " speaks CUDA ", CudaVersionText(inventory.cuda_version),
      ", and this program was built with CUDA ", CudaVersionText(build.toolkit_version),
      ": update the driver to one of CUDA ", build.toolkit_version / 1000, ".0 or later"));
}

Status CheckCapability(const Gpu& gpu, const CudaBuild& build) {
  if (gpu.major < kLeastMajor) {
    return absl::FailedPreconditionError(absl::StrCat(gpu.Words(), " has compute capability ",
                                                      Capability(gpu), "; at least ", kLeastMajor,
                                                      ".0 is needed (Ampere or later)"));
  }
  if (build.mode == CudaBuild::Mode::kAny || build.HasCodeFor(gpu.major, gpu.minor)) return absl::OkStatus();
  return absl::FailedPreconditionError(absl::StrCat(
      gpu.Words(), " has compute capability ", Capability(gpu), ", and this build has code for ",
      absl::StrJoin(build.architectures, ", "), " only: build with -DCOTERIE_CUDA_ARCHITECTURES=\"",
      absl::StrJoin(build.architectures, ";"), ";", gpu.major, gpu.minor, "\""));
}

Status CheckComputeMode(const Gpu& gpu) {
  switch (gpu.mode) {
    case Gpu::ComputeMode::kShared:
      return absl::OkStatus();
    case Gpu::ComputeMode::kProhibited:
      return absl::FailedPreconditionError(
          absl::StrCat(gpu.Words(),
                       " is in compute mode \"prohibited\"; an administrator allows computing with "
                       "nvidia-smi -i ",
                       gpu.pci_bus_id, " -c DEFAULT"));
    case Gpu::ComputeMode::kExclusive:
      if (gpu.n_processes == 0) return absl::OkStatus();
      return absl::FailedPreconditionError(
          absl::StrCat(gpu.Words(), " is in exclusive mode and busy: ", gpu.n_processes,
                       gpu.n_processes == 1 ? " process computes" : " processes compute",
                       " on it already; end that, or take another device"));
  }
  return absl::OkStatus();
}

ChosenDevice Take(const Gpu& gpu) {
  return {gpu.device(), gpu, absl::StrCat("device ", gpu.device(), ": ", Describe(gpu))};
}

ChosenDevice ChooseFirstUsable(const Inventory& inventory, const CudaBuild& build) {
  if (!inventory.status.ok()) {
    return {"cpu", std::nullopt, absl::StrCat("device cpu, since ", inventory.status.message())};
  }
  std::vector<std::string> passed_over;
  for (const Gpu& gpu : inventory.gpus) {
    const Status usable = CheckUsable(gpu, inventory, build);
    if (!usable.ok()) {
      passed_over.emplace_back(usable.message());
      continue;
    }
    ChosenDevice chosen = Take(gpu);
    if (!passed_over.empty()) {
      absl::StrAppend(&chosen.words, "; passed over: ", absl::StrJoin(passed_over, "; "));
    }
    return chosen;
  }
  return {"cpu", std::nullopt,
          absl::StrCat("device cpu, since no GPU can be used: ", absl::StrJoin(passed_over, "; "))};
}

}  // namespace

std::string Describe(const Gpu& gpu) {
  std::string words =
      absl::StrCat(gpu.name, ", compute capability ", Capability(gpu), ", ", MemoryText(gpu.total_bytes));
  if (gpu.free_bytes) absl::StrAppend(&words, " of which ", MemoryText(*gpu.free_bytes), " are free");
  if (gpu.mig) words += ", a MIG instance";
  if (!gpu.pci_bus_id.empty()) absl::StrAppend(&words, ", at ", gpu.pci_bus_id);
  if (gpu.numa_node >= 0) absl::StrAppend(&words, " on NUMA node ", gpu.numa_node);
  return words;
}

StatusOr<DeviceRequest> DeviceRequest::Parse(std::string_view text) {
  DeviceRequest request;
  if (text == "cpu") return request;
  if (text == "auto") return DeviceRequest{Kind::kAuto, 0};
  constexpr std::string_view kPrefix = "cuda:";
  request.kind = Kind::kGpu;
  const std::string_view number = text.starts_with(kPrefix) ? text.substr(kPrefix.size()) : "";
  if (number.empty() || number.find_first_not_of("0123456789") != std::string_view::npos ||
      !absl::SimpleAtoi(ToAbsl(number), &request.index) || request.index > kMaxIndex) {
    return absl::InvalidArgumentError("must be cpu, auto or cuda:N, such as cuda:0");
  }
  return request;
}

Status CheckUsable(const Gpu& gpu, const Inventory& inventory, const CudaBuild& build) {
  if (build.mode == CudaBuild::Mode::kEmulated) return absl::OkStatus();
  if (gpu.lost) {
    return absl::UnavailableError(
        absl::StrCat(gpu.Words(),
                     " has fallen off the bus: reset it or reboot, and see the kernel's log "
                     "(dmesg) for Xid lines"));
  }
  if (!gpu.readable.ok()) {
    return absl::UnavailableError(
        absl::StrCat(gpu.Words(), ": the driver tells nothing of it: ", gpu.readable.message()));
  }
  RETURN_IF_ERROR(CheckDriver(gpu, inventory, build));
  RETURN_IF_ERROR(CheckCapability(gpu, build));
  return CheckComputeMode(gpu);
}

StatusOr<ChosenDevice> ChooseDevice(const DeviceRequest& request, const Inventory& inventory,
                                    const CudaBuild& build) {
  if (request.kind == DeviceRequest::Kind::kCpu) return ChosenDevice{"cpu", std::nullopt, "device cpu"};
  if (request.kind == DeviceRequest::Kind::kAuto) return ChooseFirstUsable(inventory, build);
  RETURN_IF_ERROR(inventory.status);
  const auto n_gpus = static_cast<int>(inventory.gpus.size());
  if (request.index >= n_gpus) {
    const std::string last = n_gpus > 1 ? absl::StrCat(" to ", inventory.gpus.back().device()) : "";
    return absl::NotFoundError(absl::StrCat("there is no such device: the driver shows ", n_gpus, " (cuda:0",
                                            last, ")", inventory.HiddenWords()));
  }
  const Gpu& gpu = inventory.gpus[static_cast<size_t>(request.index)];
  RETURN_IF_ERROR(CheckUsable(gpu, inventory, build));
  return Take(gpu);
}

}  // namespace coterie::devices
