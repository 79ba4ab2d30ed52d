#ifndef COTERIE_MODEL_LORA_PACKED_FOLDER_H_
#define COTERIE_MODEL_LORA_PACKED_FOLDER_H_

#include <atomic>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "common/digest.h"
#include "common/file.h"
#include "common/status.h"
#include "model/lora/packed_file.h"

namespace coterie {

struct VolumeSpace {
  uint64_t bytes = 0;
  uint64_t free_bytes = 0;
};
// The volume that holds `folder`.
StatusOr<VolumeSpace> MeasureVolume(const std::filesystem::path& folder);

struct PackedFolderOptions {
  // Of all packed files together; writing one more removes those not used for longest. 0: none are written
  // (those that are there are read).
  uint64_t max_bytes = uint64_t{4} << 30;
  // They leave so much of the volume free for others, but never more than a tenth of it: writing one more
  // removes others until that is so.
  uint64_t spare_bytes = uint64_t{4} << 30;
  std::function<StatusOr<VolumeSpace>(const std::filesystem::path&)> measure_volume = MeasureVolume;
  // Words for the log, called from any thread.
  std::function<void(std::string_view)> log = [](std::string_view) {};
};

// The packed files of a store (packed_file.h): packed/<adapter>-<layout>.bin beside its objects. A cache: a
// fault in it costs time and a line in the log, never an answer, and it may be emptied at any time. Any
// number of processes may use one at once without a lock, since files are written under other names and
// renamed, and never written to again. Their bound may be exceeded for a moment by what several processes are
// writing. Thread-safe.
class PackedFolder {
 public:
  PackedFolder(std::filesystem::path folder, PackedFolderOptions options)
      : folder_(std::move(folder)), options_(std::move(options)) {}

  // The adapter's file, marked as just used. NotFound when there is none.
  StatusOr<std::shared_ptr<const MappedFile>> Open(const PackedKey& key) const;
  // Logs that a file which Open found cannot be used. The next Save replaces it.
  void Refuse(const PackedKey& key, const Status& why);
  // Writes the adapter's file; only with `replace` over one that is there. Slow. Where it cannot be written,
  // logs that once for each kind of reason.
  void Save(const PackedKey& key, std::span<const HostLora> pairs, std::span<const uint8_t> weights,
            bool replace);

  // The adapter whose packed file has this name; none for other files.
  static std::optional<Digest> AdapterOf(const std::filesystem::path& file);
  // Removes the files of adapters for which `is_there` is false, and unfinished files of writers that died.
  static void RemoveOrphans(const std::filesystem::path& folder,
                            const std::function<bool(const Digest&)>& is_there);

 private:
  std::filesystem::path PathOf(const PackedKey& key) const;
  Status Write(const PackedKey& key, std::span<const HostLora> pairs, std::span<const uint8_t> weights);
  // Removes files until there is room for one of `n_bytes` for `key`. ResourceExhausted, and none removed,
  // when removing all of them would not make room.
  Status MakeRoom(const PackedKey& key, uint64_t n_bytes) const;
  // How many bytes packed files may take, those of `total` bytes included that are there.
  StatusOr<uint64_t> Bound(uint64_t total) const;

  const std::filesystem::path folder_;
  const PackedFolderOptions options_;
  std::atomic<uint32_t> n_refused_ = 0;
  std::atomic<uint32_t> failures_said_ = 0;  // bit i: of status code i
};

}  // namespace coterie

#endif  // COTERIE_MODEL_LORA_PACKED_FOLDER_H_
