#ifndef COTERIE_COMMON_DEVICE_LISTING_H_
#define COTERIE_COMMON_DEVICE_LISTING_H_

#include <string>
#include <string_view>
#include <vector>

namespace coterie {

// One line of `coterie-worker --list-devices`, which people read and `coterie up` does, too.
struct ListedDevice {
  std::string device;  // "cuda:0"; "cuda" where there are none at all; "cpu"
  bool usable = false;
  std::string words;  // what it is, or why it cannot be used; one line
};

// "cuda:0 usable NVIDIA H200, …"
std::string DeviceLine(const ListedDevice& device);
// Lines of another form (a driver may print its own) are left out.
std::vector<ListedDevice> ParseDeviceLines(std::string_view text);

}  // namespace coterie

#endif  // COTERIE_COMMON_DEVICE_LISTING_H_
