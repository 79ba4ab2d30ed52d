#ifndef COTERIE_GATEWAY_PUBLISH_LORA_FOLDERS_H_
#define COTERIE_GATEWAY_PUBLISH_LORA_FOLDERS_H_

#include <filesystem>
#include <string>
#include <vector>

#include "common/status.h"

namespace coterie::gateway {

// The folders of this machine below which adapters may be loaded by whoever reaches the admin listener
// (--lora-folders). Whatever a caller writes, nothing outside of them is looked at: neither "..", nor a
// symbolic link that leads out, whether on the way or in the adapter's folder itself. Links that stay within
// are followed (a Hugging Face cache consists of them). Who can write into the folders is trusted: between
// this look and the reading they could change them.
class LoraFolders {
 public:
  // NotFound or InvalidArgument naming a folder that is none.
  static StatusOr<LoraFolders> Of(const std::vector<std::string>& folders);

  bool empty() const { return folders_.empty(); }
  // Where `path` lies: absolute and below one of the folders, or relative to one of them. InvalidArgument,
  // NotFound or PermissionDenied, which tell nothing of what lies elsewhere.
  StatusOr<std::filesystem::path> Resolve(const std::string& path) const;

 private:
  std::vector<std::filesystem::path> folders_;  // without links
};

}  // namespace coterie::gateway

#endif  // COTERIE_GATEWAY_PUBLISH_LORA_FOLDERS_H_
