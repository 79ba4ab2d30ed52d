#include "tools/client/expert_folder.h"

#include <utility>

#include "model/publishing/read_folder.h"
#include "model/store/staging.h"

namespace coterie::client {

StatusOr<std::vector<ExpertFile>> ReadExpertFolder(const std::filesystem::path& folder) {
  std::vector<Status> problems;
  FolderContent content = ReadFolder(folder, /*base=*/nullptr, &problems);
  if (!problems.empty()) return problems.front();
  RETURN_IF_ERROR(CheckCardAndPrototypes(content, folder));
  std::vector<ExpertFile> files;
  files.push_back({std::string(kConfigFile), *std::move(content.config)});
  files.push_back({std::string(kWeightsFile), *std::move(content.weights)});
  files.push_back({std::string(kCardFile), *std::move(content.card)});
  files.push_back({std::string(kPrototypesFile), *std::move(content.prototypes)});
  return files;
}

}  // namespace coterie::client
