#include "common/memory.h"

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <optional>
#include <sstream>
#include <string_view>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"

namespace coterie {
namespace {

namespace fs = std::filesystem;

constexpr uint64_t kEndless = uint64_t{1} << 63;

std::vector<std::string> Lines(const fs::path& path) {
  std::ifstream file(path);
  std::vector<std::string> lines;
  for (std::string line; std::getline(file, line);) lines.push_back(line);
  return lines;
}

// The number that a file consists of; none where it is missing or says "max".
std::optional<uint64_t> NumberIn(const fs::path& path) {
  const std::vector<std::string> lines = Lines(path);
  uint64_t value = 0;
  if (lines.empty() || !absl::SimpleAtoi(lines[0], &value)) return std::nullopt;
  return value;
}

// The sum of the named numbers of a file of "name number" lines.
uint64_t SumIn(const fs::path& path, std::initializer_list<absl::string_view> names) {
  uint64_t sum = 0;
  for (const std::string& line : Lines(path)) {
    const std::vector<std::string> words = absl::StrSplit(line, ' ', absl::SkipEmpty());
    uint64_t value = 0;
    if (words.size() >= 2 && std::find(names.begin(), names.end(), words[0]) != names.end() &&
        absl::SimpleAtoi(words[1], &value)) {
      sum += value;
    }
  }
  return sum;
}

struct CgroupFiles {
  std::initializer_list<const char*> limits;
  const char* usage;
  std::initializer_list<absl::string_view> page_cache;  // in memory.stat
};
const CgroupFiles kVersion1 = {
    {"memory.limit_in_bytes"}, "memory.usage_in_bytes", {"total_inactive_file", "total_active_file"}};
const CgroupFiles kVersion2 = {
    {"memory.max", "memory.high"}, "memory.current", {"inactive_file", "active_file"}};

void Take(uint64_t bytes, std::string limit, MemoryRoom* least) {
  if (bytes >= least->bytes) return;
  *least = {bytes, std::move(limit)};
}

// The limits of the group at `mount` / `group` and of all above it up to `mount`.
void TakeGroups(const fs::path& mount, const fs::path& group, const CgroupFiles& files, MemoryRoom* least) {
  for (fs::path name = group;; name = name.parent_path()) {
    const fs::path folder = name.empty() ? mount : mount / name;
    for (const char* file : files.limits) {
      const std::optional<uint64_t> limit = NumberIn(folder / file);
      // "No limit" of version 1 is a number near 2^63.
      if (!limit.has_value() || *limit >= kEndless / 2) continue;
      const uint64_t used = NumberIn(folder / files.usage).value_or(0);
      const uint64_t cached = std::min(used, SumIn(folder / "memory.stat", files.page_cache));
      const uint64_t held = used - cached;
      Take(*limit > held ? *limit - held : 0,
           absl::StrCat(file, " of cgroup /", name.string(), " is ", MemoryText(*limit)), least);
    }
    if (name.empty()) return;
  }
}

// This process's group in a hierarchy, as a path relative to what is mounted of it.
fs::path RelativeTo(const std::string& mounted_root, const std::string& group) {
  std::string path = group;
  if (mounted_root != "/") {
    // Another namespace's path: what is mounted is our group.
    if (!absl::StartsWith(path, mounted_root)) return {};
    if (path.size() > mounted_root.size() && path[mounted_root.size()] != '/') return {};
    path = path.substr(mounted_root.size());
  }
  if (absl::StrContains(path, "..")) return {};
  return fs::path(path).relative_path();
}

void TakeCgroups(const fs::path& root, MemoryRoom* least) {
  std::optional<std::string> version1, version2;  // paths of our group
  for (const std::string& line : Lines(root / "proc/self/cgroup")) {
    const std::vector<std::string> parts = absl::StrSplit(line, absl::MaxSplits(':', 2));
    if (parts.size() != 3) continue;
    const std::vector<std::string> controllers = absl::StrSplit(parts[1], ',');
    if (parts[0] == "0" && parts[1].empty()) version2 = parts[2];
    if (std::find(controllers.begin(), controllers.end(), "memory") != controllers.end()) version1 = parts[2];
  }
  for (const std::string& line : Lines(root / "proc/self/mountinfo")) {
    // "36 35 0:29 ROOT MOUNT options optional... - TYPE source super-options"
    const std::vector<std::string> halves = absl::StrSplit(line, absl::MaxSplits(" - ", 1));
    if (halves.size() != 2) continue;
    const std::vector<std::string> left = absl::StrSplit(halves[0], ' ');
    const std::vector<std::string> right = absl::StrSplit(halves[1], ' ');
    if (left.size() < 5 || right.size() < 3) continue;
    const fs::path mount = root / fs::path(left[4]).relative_path();
    if (right[0] == "cgroup2" && version2.has_value()) {
      TakeGroups(mount, RelativeTo(left[3], *version2), kVersion2, least);
    }
    const std::vector<std::string> options = absl::StrSplit(right[2], ',');
    if (right[0] == "cgroup" && version1.has_value() &&
        std::find(options.begin(), options.end(), "memory") != options.end()) {
      TakeGroups(mount, RelativeTo(left[3], *version1), kVersion1, least);
    }
  }
}

}  // namespace

std::string MemoryText(uint64_t bytes) {
  if (bytes < uint64_t{10} << 20) return absl::StrCat((bytes + 1023) >> 10, " KB");
  if (bytes < uint64_t{10} << 30) return absl::StrCat((bytes + (1 << 19)) >> 20, " MB");
  return absl::StrFormat("%.1f GB", static_cast<double>(bytes) / (1 << 30));
}

MemoryRoom AvailableMemory(const fs::path& root) {
  MemoryRoom least = {kEndless, "none"};
  if (const uint64_t free_kb = SumIn(root / "proc/meminfo", {"MemAvailable:"}); free_kb > 0) {
    Take(free_kb << 10, "the machine has no more available", &least);
  }
  TakeCgroups(root, &least);
  return least;
}

Status CheckMemoryFor(uint64_t bytes, const std::string& what) {
  const MemoryRoom room = AvailableMemory();
  if (bytes <= room.bytes) return absl::OkStatus();
  return absl::ResourceExhaustedError(absl::StrCat("no memory for ", what, ": it takes ", MemoryText(bytes),
                                                   ", ", MemoryText(room.bytes), " are left (", room.limit,
                                                   ")"));
}

}  // namespace coterie
