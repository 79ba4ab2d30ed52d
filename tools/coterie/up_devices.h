#ifndef COTERIE_TOOLS_COTERIE_UP_DEVICES_H_
#define COTERIE_TOOLS_COTERIE_UP_DEVICES_H_

#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "common/device_listing.h"
#include "common/status.h"

namespace coterie::command {

// The devices of the workers that `coterie up` starts, one worker each.
struct UpDevices {
  std::vector<std::string> devices;  // "cuda:0" and so on, or "cpu" for each of the workers there
  std::string note;                  // a line about what was chosen and why
};

// What --devices asks for, of what is `listed`: {"all"} every GPU that can be used, or else the CPU; {"cpu"}
// it alone; GPUs by their names. On the CPU there are `n_cpu_workers`. NotFound or FailedPrecondition naming
// the device that cannot be had, InvalidArgument a list that makes no sense.
StatusOr<UpDevices> ChooseUpDevices(std::span<const std::string> asked, std::span<const ListedDevice> listed,
                                    int n_cpu_workers);

// Asks `worker` (the program) what devices there are: in a process of its own, so that a driver that hangs
// holds up nobody for longer than `timeout`. What it says also goes to `log`.
StatusOr<std::vector<ListedDevice>> AskForDevices(const std::filesystem::path& worker,
                                                  const std::filesystem::path& log, absl::Duration timeout);

}  // namespace coterie::command

#endif  // COTERIE_TOOLS_COTERIE_UP_DEVICES_H_
