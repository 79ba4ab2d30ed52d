#include "kernels/devices/numa.h"

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "common/cores.h"
#include "common/file.h"

namespace coterie::devices {
namespace {

constexpr size_t kMaxFileBytes = 1 << 16;

}  // namespace

int NumaNodeOf(const std::string& pci_bus_id, const std::filesystem::path& sysfs) {
  const StatusOr<std::string> text =
      ReadFile(sysfs / "bus/pci/devices" / pci_bus_id / "numa_node", kMaxFileBytes);
  int node = -1;
  if (!text.ok() || !absl::SimpleAtoi(*text, &node)) return -1;
  return node;
}

std::vector<int> CoresOfNode(int node, const std::filesystem::path& sysfs) {
  const StatusOr<std::string> text =
      ReadFile(sysfs / "devices/system/node" / absl::StrCat("node", node) / "cpulist", kMaxFileBytes);
  if (!text.ok()) return {};
  return ParseCoreList(ToStd(absl::StripAsciiWhitespace(*text))).value_or(std::vector<int>());
}

}  // namespace coterie::devices
