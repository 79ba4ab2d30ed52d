#ifndef COTERIE_MODEL_STORE_STAGING_H_
#define COTERIE_MODEL_STORE_STAGING_H_

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <string_view>

#include "common/status.h"
#include "model/lora/peft_config.h"
#include "model/store/file_lock.h"

namespace coterie {

// A folder of one publication below a store's staging/, with a lock in it for as long as its maker lives.
// Whatever is left in it is removed on destruction; when the process dies before that, the next publisher
// does it (RemoveAbandoned), which it may because the kernel has dropped our lock. Not thread-safe.
class StagingRoom {
 public:
  // Below `root` (a store's staging/). The caller holds the store's lock, so that no cleaner meets the folder
  // before it is locked.
  static StatusOr<std::shared_ptr<StagingRoom>> Create(const std::filesystem::path& root);
  // Removes what publishers left that are gone. The caller holds the store's lock.
  static void RemoveAbandoned(const std::filesystem::path& root);
  ~StagingRoom();
  StagingRoom(const StagingRoom&) = delete;
  StagingRoom& operator=(const StagingRoom&) = delete;

  // The path of a folder that does not exist yet.
  std::filesystem::path NextPath() { return path_ / std::to_string(n_folders_++); }
  const std::filesystem::path& path() const { return path_; }

 private:
  StagingRoom(std::filesystem::path path, std::unique_ptr<FileLock> lock)
      : path_(std::move(path)), lock_(std::move(lock)) {}

  const std::filesystem::path path_;
  std::unique_ptr<FileLock> lock_;
  size_t n_folders_ = 0;
};

// The files of one expert on their way into the store: {adapter,card}/ in a folder of a room. They are
// written here, checked here, and renamed to their final place whole. Whatever is left is removed on
// destruction. Not thread-safe.
class StagingFolder {
 public:
  struct Limits {
    uint64_t max_config_bytes = 1 << 20;
    uint64_t max_weights_bytes = LoraLimits{}.max_bytes;
    uint64_t max_card_bytes = 64 << 10;
    uint64_t max_prototypes_bytes = uint64_t{34} << 20;
  };

  static StatusOr<std::unique_ptr<StagingFolder>> Create(std::shared_ptr<StagingRoom> room,
                                                         const Limits& limits);
  ~StagingFolder();
  StagingFolder(const StagingFolder&) = delete;
  StagingFolder& operator=(const StagingFolder&) = delete;

  // Whether a file of so many bytes would be taken: InvalidArgument as Append's.
  Status Expect(std::string_view file, uint64_t n_bytes) const;
  // Appends to one of the four files of an expert. InvalidArgument for another name or beyond the limit of
  // that file, ResourceExhausted when the disk is full; all name the file.
  Status Append(std::string_view file, std::string_view chunk);
  // Copies `source`, a regular file, as `file`.
  Status CopyIn(std::string_view file, const std::filesystem::path& source);
  // Closes all files. FailedPrecondition naming the first file that is missing when there is no card.
  Status Seal();
  // FailedPrecondition naming the first of the four files that is missing.
  Status CheckComplete() const;
  bool Has(std::string_view file) const { return files_.contains(file); }
  // After Seal: flushes the files to the disk; for many folders SyncFileSystem is one wait instead.
  Status Flush() const;

  // adapter_config.json and adapter_model.safetensors; expert.yaml and prototypes.safetensors.
  std::filesystem::path adapter_folder() const { return path_ / "adapter"; }
  std::filesystem::path card_folder() const { return path_ / "card"; }
  uint64_t n_bytes(std::string_view file) const;

 private:
  struct OpenFile {
    int fd = -1;
    uint64_t n_bytes = 0;
  };

  StagingFolder(std::filesystem::path path, std::shared_ptr<StagingRoom> room, const Limits& limits)
      : path_(std::move(path)), room_(std::move(room)), limits_(limits) {}
  std::filesystem::path PathOf(std::string_view file) const;
  StatusOr<uint64_t> LimitOf(std::string_view file) const;

  const std::filesystem::path path_;
  const std::shared_ptr<StagingRoom> room_;
  const Limits limits_;
  std::map<std::string, OpenFile, std::less<>> files_;
};

// The four files of an expert folder.
inline constexpr std::string_view kConfigFile = "adapter_config.json";
inline constexpr std::string_view kWeightsFile = "adapter_model.safetensors";
inline constexpr std::string_view kCardFile = "expert.yaml";
inline constexpr std::string_view kPrototypesFile = "prototypes.safetensors";

// Flushes a folder's entries to the disk.
Status SyncFolder(const std::filesystem::path& folder);
// Flushes everything on the file system that holds `folder`: one wait instead of one per file.
Status SyncFileSystem(const std::filesystem::path& folder);

}  // namespace coterie

#endif  // COTERIE_MODEL_STORE_STAGING_H_
