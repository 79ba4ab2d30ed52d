#ifndef COTERIE_MODEL_PUBLISHING_CHECK_FOLDER_H_
#define COTERIE_MODEL_PUBLISHING_CHECK_FOLDER_H_

#include <filesystem>
#include <string>
#include <vector>

#include "common/status.h"
#include "model/format/model_config.h"
#include "model/publishing/read_folder.h"

namespace coterie {

// What stands in the way of publishing a folder, and what else a person should know of it.
struct FolderReport {
  // All that is wrong, in the order configuration, weights, card, prototypes; empty: nothing. The code is the
  // one that publishing would end with.
  std::vector<Status> problems;
  std::vector<std::string> notes;
  // "mixture of 2 experts";
  // "LoRA of rank 8 on 60 modules (q_proj, v_proj), F32, 1.2 MB"; empty where the weights cannot be read.
  std::string summary;
};

// Reads the whole folder (ReadFolder) and checks everything that can be checked without a gateway. With
// `base`, that is all that publishing checks but the card's base_digest and the embedder; without, weights
// are held against themselves and the configuration alone. A folder without card and prototypes is sound: a
// note says how to make them.
FolderReport CheckFolder(const std::filesystem::path& path, const ModelConfig* base);

// Whether the adapter of a folder that was read, if it is to have one, fits `base`: the first of what
// LoraAdapter::Parse refuses.
Status CheckAgainstBase(const FolderContent& content, const std::filesystem::path& path,
                        const ModelConfig& base);

}  // namespace coterie

#endif  // COTERIE_MODEL_PUBLISHING_CHECK_FOLDER_H_
