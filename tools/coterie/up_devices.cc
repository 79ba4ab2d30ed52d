#include "tools/coterie/up_devices.h"

#include <algorithm>

#include "absl/strings/str_join.h"
#include "absl/time/clock.h"
#include "common/clock.h"
#include "common/file.h"
#include "common/quoted.h"
#include "tools/coterie/child_process.h"

namespace coterie::command {
namespace {

constexpr size_t kMaxListingBytes = 1 << 20;

UpDevices OnCpu(int n_workers, std::string note) {
  return {std::vector<std::string>(static_cast<size_t>(n_workers), "cpu"), std::move(note)};
}

UpDevices EveryUsable(std::span<const ListedDevice> listed, int n_cpu_workers) {
  UpDevices chosen;
  std::vector<std::string> reasons;
  for (const ListedDevice& device : listed) {
    if (device.device == "cpu") continue;
    if (device.usable) {
      chosen.devices.push_back(device.device);
    } else {
      reasons.push_back(device.words);
    }
  }
  const std::string others = absl::StrJoin(reasons, "; ");
  if (chosen.devices.empty()) {
    return OnCpu(n_cpu_workers, reasons.empty() ? "workers run on the CPU"
                                                : absl::StrCat("workers run on the CPU, since ", others));
  }
  chosen.note = absl::StrCat("a worker on each of ", absl::StrJoin(chosen.devices, ", "));
  if (!others.empty()) absl::StrAppend(&chosen.note, "; passed over: ", others);
  return chosen;
}

Status CheckOne(const std::string& name, std::span<const ListedDevice> listed) {
  std::vector<std::string> known;
  for (const ListedDevice& device : listed) {
    if (device.device == name && device.usable) return absl::OkStatus();
    if (device.device == name || device.device == "cuda") {  // that one, or why there are none at all
      return absl::FailedPreconditionError(absl::StrCat("--devices: ", name, ": ", device.words));
    }
    if (device.device != "cpu") known.push_back(device.device);
  }
  return absl::NotFoundError(absl::StrCat("--devices: there is no ", Quoted(name), "; there ",
                                          known.size() == 1 ? "is " : "are ", absl::StrJoin(known, ", ")));
}

}  // namespace

StatusOr<UpDevices> ChooseUpDevices(std::span<const std::string> asked, std::span<const ListedDevice> listed,
                                    int n_cpu_workers) {
  if (asked.size() == 1 && asked[0] == "cpu") return OnCpu(n_cpu_workers, "");
  if (asked.size() == 1 && asked[0] == "all") return EveryUsable(listed, n_cpu_workers);
  for (auto name = asked.begin(); name != asked.end(); ++name) {
    if (*name == "all" || *name == "cpu") {
      return absl::InvalidArgumentError(
          absl::StrCat("--devices: ", *name, " stands alone: all, cpu, or GPUs such as cuda:0,cuda:1"));
    }
    if (std::find(asked.begin(), name, *name) != name) {
      return absl::InvalidArgumentError(absl::StrCat("--devices: ", Shown(*name), " is named twice"));
    }
    RETURN_IF_ERROR(CheckOne(*name, listed));
  }
  if (asked.empty()) return absl::InvalidArgumentError("--devices: none is named; all, cpu or cuda:N");
  return UpDevices{{asked.begin(), asked.end()}, ""};
}

StatusOr<std::vector<ListedDevice>> AskForDevices(const std::filesystem::path& worker,
                                                  const std::filesystem::path& log, absl::Duration timeout) {
  ASSIGN_OR_RETURN(const std::unique_ptr<ChildProcess> asking,
                   ChildProcess::Start({worker.string(), "--list-devices"}, log));
  const MonotonicTime deadline = MonotonicNow() + timeout;
  while (!asking->Ended() && MonotonicNow() < deadline) absl::SleepFor(absl::Milliseconds(5));
  if (!asking->Ended()) {
    return absl::DeadlineExceededError(absl::StrCat(
        "the driver did not say within ", absl::FormatDuration(timeout), " what devices there are"));
  }
  ASSIGN_OR_RETURN(const std::string said, ReadFile(log, kMaxListingBytes));
  std::vector<ListedDevice> listed = ParseDeviceLines(said);
  if (!listed.empty()) return listed;
  return absl::InternalError(
      absl::StrCat("the worker did not list its devices: it ", *asking->Ended(), "; see ", log.string()));
}

}  // namespace coterie::command
