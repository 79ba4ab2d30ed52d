#ifndef COTERIE_MODEL_PUBLISHING_READ_FOLDER_H_
#define COTERIE_MODEL_PUBLISHING_READ_FOLDER_H_

#include <cstddef>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "common/status.h"
#include "model/format/model_config.h"

namespace coterie {

// No adapter comes near it.
inline constexpr size_t kMaxExpertFileBytes = size_t{1} << 31;

// The files of an expert (docs/expert-format.md) as a folder holds them.
struct FolderContent {
  std::filesystem::path folder;  // of a Hugging Face cache: the snapshot
  // The card says that the expert is made of others: then there is no adapter, and there need be no
  // prototypes.
  bool composite = false;
  // As PEFT writes them, whatever the folder holds in their place; absent where a problem says why.
  std::optional<std::string> config;
  std::optional<std::string> weights;
  // Absent where the folder has none, as a plain PEFT folder.
  std::optional<std::string> card;
  std::optional<std::string> prototypes;
  // What was joined, converted or passed over, a sentence each.
  std::vector<std::string> notes;
};

// Reads folders as tools write them: PEFT's save_pretrained(), a Hugging Face cache (symbolic links to blobs;
// also its models--ORG--NAME folder), weights in shards (with or without their index), a GGUF LoRA adapter
// (in a folder or `path` itself; `base` as in ConvertGgufAdapter), whatever else lies beside. What cannot be
// read goes to *problems, all of it; each names the path as it was given and what to do. NotFound for what is
// not there, InvalidArgument for what is no file or beyond kMaxExpertFileBytes, Unimplemented for the files
// of other tools and for pickles. What the files say is not looked at: see check_folder.h.
FolderContent ReadFolder(const std::filesystem::path& path, const ModelConfig* base,
                         std::vector<Status>* problems);

// Whether the folder lacks a card or prototypes, as NotFound that says what to do about it.
Status CheckCardAndPrototypes(const FolderContent& content, const std::filesystem::path& path);

// A name for an expert made from the folder: the folder's, as far as an expert's name may be so.
std::string SuggestedName(const std::filesystem::path& folder);

// The shape of a base: a GGUF file, a Hugging Face folder or its config.json.
StatusOr<ModelConfig> ReadBaseShape(const std::filesystem::path& path);

}  // namespace coterie

#endif  // COTERIE_MODEL_PUBLISHING_READ_FOLDER_H_
