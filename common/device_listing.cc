#include "common/device_listing.h"

#include <algorithm>

#include "absl/strings/str_split.h"
#include "common/status.h"

namespace coterie {

std::string DeviceLine(const ListedDevice& device) {
  std::string line = absl::StrCat(device.device, device.usable ? " usable " : " unusable ", device.words);
  std::replace(line.begin(), line.end(), '\n', ' ');
  return line;
}

std::vector<ListedDevice> ParseDeviceLines(std::string_view text) {
  std::vector<ListedDevice> devices;
  for (const absl::string_view line : absl::StrSplit(ToAbsl(text), '\n')) {
    const std::vector<std::string> parts = absl::StrSplit(line, absl::MaxSplits(' ', 2));
    if (parts.size() < 3 || (parts[1] != "usable" && parts[1] != "unusable")) continue;
    if (parts[0] != "cpu" && parts[0].rfind("cuda", 0) != 0) continue;
    devices.push_back({parts[0], parts[1] == "usable", parts[2]});
  }
  return devices;
}

}  // namespace coterie
