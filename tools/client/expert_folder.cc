#include "tools/client/expert_folder.h"

#include <optional>
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
  const auto add = [&files](std::string_view name, std::optional<std::string>* file) {
    if (file->has_value()) files.push_back({std::string(name), **std::move(file)});
  };
  add(kConfigFile, &content.config);
  add(kWeightsFile, &content.weights);
  add(kCardFile, &content.card);
  add(kPrototypesFile, &content.prototypes);
  return files;
}

}  // namespace coterie::client
