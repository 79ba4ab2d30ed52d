#ifndef COTERIE_TOOLS_CLIENT_EXPERT_FOLDER_H_
#define COTERIE_TOOLS_CLIENT_EXPERT_FOLDER_H_

#include <filesystem>
#include <string>
#include <vector>

#include "common/status.h"

namespace coterie::client {

struct ExpertFile {
  std::string name;  // "adapter_config.json"
  std::string content;
};

// The four files of an expert folder (docs/expert-format.md), or those of them that an expert made of others
// has, in memory, joined or converted where they stand
// there in another form (ReadFolder of model/publishing). What the server could only call missing is told
// apart here, where the whole folder is seen: a pickle, a whole model, a PEFT folder without a card, another
// tool's adapter. Errors are the first of ReadFolder's, or say what a folder without card or prototypes
// needs.
StatusOr<std::vector<ExpertFile>> ReadExpertFolder(const std::filesystem::path& folder);

}  // namespace coterie::client

#endif  // COTERIE_TOOLS_CLIENT_EXPERT_FOLDER_H_
