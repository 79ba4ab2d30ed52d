#include "model/lora/packed_folder.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <system_error>
#include <vector>

#include "absl/strings/match.h"
#include "common/memory.h"

namespace coterie {
namespace fs = std::filesystem;
namespace {

constexpr std::string_view kSuffix = ".bin";
constexpr size_t kLayoutDigits = 16;
// Layouts of one adapter that are kept: two modes, and those of the version before during a roll-out.
constexpr size_t kMaxLayouts = 4;
// So many damaged files are logged one by one; from there on, only every time their number has doubled.
constexpr uint32_t kNamedOneByOne = 16;

struct Entry {
  fs::path path;
  uint64_t n_bytes;
  timespec used;
};

bool UsedBefore(const Entry& a, const Entry& b) {
  return a.used.tv_sec != b.used.tv_sec ? a.used.tv_sec < b.used.tv_sec : a.used.tv_nsec < b.used.tv_nsec;
}

// A file that its writer has not renamed yet, or never will since it died.
bool IsTemporary(const fs::path& file) { return absl::StartsWith(file.filename().string(), "new-"); }

// Our files, least recently used first. Files that vanish meanwhile are passed over.
StatusOr<std::vector<Entry>> ListEntries(const fs::path& folder) {
  ASSIGN_OR_RETURN(const std::vector<fs::path> paths, ListFolder(folder));
  std::vector<Entry> entries;
  for (const fs::path& path : paths) {
    struct stat info;
    if (!IsTemporary(path) && !PackedFolder::AdapterOf(path).has_value()) continue;
    if (::lstat(path.c_str(), &info) != 0 || !S_ISREG(info.st_mode)) continue;
    entries.push_back({path, static_cast<uint64_t>(info.st_size), info.st_mtim});
  }
  std::sort(entries.begin(), entries.end(), UsedBefore);
  return entries;
}

void RemoveFile(const fs::path& path) {
  std::error_code ignored;  // somebody else may have done it
  fs::remove(path, ignored);
}

}  // namespace

StatusOr<VolumeSpace> MeasureVolume(const fs::path& folder) {
  struct statvfs volume;
  if (::statvfs(folder.c_str(), &volume) != 0) return ErrnoStatus(errno, "cannot stat the volume of", folder);
  return VolumeSpace{uint64_t{volume.f_blocks} * volume.f_frsize,
                     uint64_t{volume.f_bavail} * volume.f_frsize};
}

fs::path PackedFolder::PathOf(const PackedKey& key) const {
  return folder_ /
         absl::StrCat(key.adapter.ToHex(), "-", key.layout.ToHex().substr(0, kLayoutDigits), ToAbsl(kSuffix));
}

std::optional<Digest> PackedFolder::AdapterOf(const fs::path& file) {
  const std::string name = file.filename().string();
  constexpr size_t kDigits = 2 * Digest::kBytes;
  if (name.size() != kDigits + 1 + kLayoutDigits + kSuffix.size()) return std::nullopt;
  if (name[kDigits] != '-' || !absl::EndsWith(name, ToAbsl(kSuffix))) return std::nullopt;
  const auto digest = Digest::FromHex(std::string_view(name).substr(0, kDigits));
  return digest.ok() ? std::optional(*digest) : std::nullopt;
}

StatusOr<std::shared_ptr<const MappedFile>> PackedFolder::Open(const PackedKey& key) const {
  const fs::path path = PathOf(key);
  ASSIGN_OR_RETURN(std::shared_ptr<const MappedFile> file, MappedFile::Open(path));
  // The time of its last change is that of its last use: nobody changes it. Where we may not set it, files
  // that are used go as early as others.
  (void)::utimensat(AT_FDCWD, path.c_str(), nullptr, 0);
  return file;
}

void PackedFolder::Refuse(const PackedKey& key, const Status& why) {
  const uint32_t n = ++n_refused_;
  if (n > kNamedOneByOne && !std::has_single_bit(n)) return;
  options_.log(absl::StrCat("the packed file ", PathOf(key).filename().string(),
                            " is ignored, and the expert packed anew (", n, " so far): ", why.message()));
}

void PackedFolder::Save(const PackedKey& key, std::span<const HostLora> pairs,
                        std::span<const uint8_t> weights, bool replace) {
  if (options_.max_bytes == 0) return;
  std::error_code ignored;
  if (!replace && fs::exists(PathOf(key), ignored)) return;  // another process was faster
  const Status status = Write(key, pairs, weights);
  if (status.ok()) return;
  const uint32_t bit = uint32_t{1} << (static_cast<uint32_t>(status.code()) % 32);
  if ((failures_said_.fetch_or(bit) & bit) != 0) return;
  options_.log(
      absl::StrCat("an expert's packed form is not kept beside its object; loading it will take as "
                   "long next time (this is said once): ",
                   status.message()));
}

Status PackedFolder::Write(const PackedKey& key, std::span<const HostLora> pairs,
                           std::span<const uint8_t> weights) {
  if (::mkdir(folder_.c_str(), 0755) != 0 && errno != EEXIST) {
    return ErrnoStatus(errno, "cannot create folder", folder_);
  }
  const std::string head = PackedFileHead(key, pairs, weights);
  RETURN_IF_ERROR(MakeRoom(key, head.size() + weights.size()));
  const std::string_view pieces[] = {head, {reinterpret_cast<const char*>(weights.data()), weights.size()}};
  return WriteCacheFile(PathOf(key), pieces);
}

Status PackedFolder::MakeRoom(const PackedKey& key, uint64_t n_bytes) const {
  ASSIGN_OR_RETURN(std::vector<Entry> entries, ListEntries(folder_));
  const fs::path target = PathOf(key);
  std::erase_if(entries, [&](const Entry& entry) { return entry.path == target; });
  uint64_t total = 0;
  size_t n_layouts = 1;
  for (const Entry& entry : entries) {
    total += entry.n_bytes;
    n_layouts += AdapterOf(entry.path) == key.adapter;
  }
  ASSIGN_OR_RETURN(const uint64_t most, Bound(total));
  if (n_bytes > most) {
    return absl::ResourceExhaustedError(absl::StrCat(
        "it takes ", MemoryText(n_bytes), ", and packed files may take ", MemoryText(most),
        most == options_.max_bytes ? " (--packed-bytes)" : ": the store's volume has no more to spare"));
  }
  for (const Entry& entry : entries) {
    const bool old_layout = n_layouts > kMaxLayouts && AdapterOf(entry.path) == key.adapter;
    if (!old_layout && total + n_bytes <= most) continue;
    RemoveFile(entry.path);
    total -= entry.n_bytes;
    n_layouts -= old_layout;
  }
  return absl::OkStatus();
}

StatusOr<uint64_t> PackedFolder::Bound(uint64_t total) const {
  ASSIGN_OR_RETURN(const VolumeSpace volume, options_.measure_volume(folder_));
  const uint64_t spare = std::min(options_.spare_bytes, volume.bytes / 10);
  // If others have taken some of the spare room, packed files give way.
  const uint64_t room = total + volume.free_bytes;
  return std::min(options_.max_bytes, room > spare ? room - spare : 0);
}

void PackedFolder::RemoveOrphans(const fs::path& folder, const std::function<bool(const Digest&)>& is_there) {
  const StatusOr<std::vector<fs::path>> files = ListFolder(folder);
  if (!files.ok()) return;  // most often: nothing was ever packed
  for (const fs::path& file : *files) {
    const std::optional<Digest> adapter = AdapterOf(file);
    if (adapter.has_value() ? !is_there(*adapter) : IsTemporary(file)) RemoveFile(file);
  }
}

}  // namespace coterie
