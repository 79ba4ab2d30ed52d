#include "tools/client/expert_folder.h"

#include <algorithm>
#include <array>
#include <string_view>
#include <system_error>

#include "absl/strings/str_join.h"
#include "common/file.h"
#include "common/path_name.h"

namespace coterie::client {
namespace {

namespace fs = std::filesystem;

constexpr size_t kMaxFileBytes = size_t{1} << 31;  // no adapter comes near it
constexpr size_t kMaxListed = 12;                  // of a folder's files, in a message

constexpr std::string_view kConfig = "adapter_config.json";
constexpr std::string_view kWeights = "adapter_model.safetensors";
constexpr std::string_view kCard = "expert.yaml";
constexpr std::string_view kPrototypes = "prototypes.safetensors";
constexpr std::array<std::string_view, 4> kFiles = {kConfig, kWeights, kCard, kPrototypes};

// What a folder holds, by name.
class Listing {
 public:
  static StatusOr<Listing> Of(const fs::path& folder) {
    Listing listing;
    ASSIGN_OR_RETURN(const std::vector<fs::path> paths, ListFolder(folder));
    for (const fs::path& path : paths) listing.names_.push_back(path.filename().string());
    std::sort(listing.names_.begin(), listing.names_.end());
    return listing;
  }

  bool Has(std::string_view name) const { return std::binary_search(names_.begin(), names_.end(), name); }
  // The first that begins and ends so, or nothing.
  std::string Like(std::string_view begin, std::string_view end) const {
    for (const std::string& name : names_) {
      if (name.starts_with(begin) && name.ends_with(end)) return name;
    }
    return "";
  }
  // "a, b and 3 more".
  std::string InWords() const {
    if (names_.empty()) return "it is empty";
    const size_t shown = std::min(names_.size(), kMaxListed);
    std::string words = absl::StrCat(
        "it holds ",
        absl::StrJoin(names_.begin(), names_.begin() + static_cast<std::ptrdiff_t>(shown), ", "));
    if (shown < names_.size()) absl::StrAppend(&words, " and ", names_.size() - shown, " more");
    return words;
  }

 private:
  std::vector<std::string> names_;
};

Status CheckFolder(const fs::path& folder) {
  std::error_code error;
  const fs::file_status status = fs::status(folder, error);
  if (fs::is_directory(status)) return absl::OkStatus();
  if (error && error != std::errc::no_such_file_or_directory && error != std::errc::not_a_directory) {
    return ErrnoStatus(error.value(), "cannot look at the folder", folder);
  }
  if (!fs::exists(status)) {
    return absl::NotFoundError(absl::StrCat(
        "no folder ", folder.string(),
        fs::is_symlink(fs::symlink_status(folder, error)) ? ": a symbolic link that leads nowhere" : ""));
  }
  return absl::InvalidArgumentError(
      absl::StrCat(folder.string(), " is no folder; name the folder that holds ",
                   absl::StrJoin(kFiles.begin(), kFiles.end(), ", ",
                                 [](std::string* out, std::string_view name) { out->append(name); })));
}

Status CheckConfig(const fs::path& folder, const Listing& files) {
  if (files.Has(kConfig)) return absl::OkStatus();
  std::string why;
  if (files.Has("config.json") && !files.Like("model", ".safetensors").empty()) {
    why = "; it looks like a whole model, and an expert is a LoRA adapter of the base";
  } else if (const std::string checkpoint = files.Like("checkpoint-", ""); !checkpoint.empty()) {
    why = absl::StrCat("; it holds checkpoints of a training: publish one of them, such as ",
                       (folder / checkpoint).string());
  } else {
    why = absl::StrCat(", which PEFT's save_pretrained() writes; ", files.InWords());
  }
  return absl::NotFoundError(absl::StrCat(folder.string(), " has no adapter_config.json", why));
}

Status CheckWeights(const fs::path& folder, const Listing& files) {
  if (files.Has(kWeights)) return absl::OkStatus();
  const std::string has_no = absl::StrCat(folder.string(), " has no adapter_model.safetensors");
  if (files.Has("adapter_model.bin")) {
    return absl::UnimplementedError(absl::StrCat(has_no,
                                                 " but an adapter_model.bin, which is a Python pickle and "
                                                 "can run code; save the adapter again with PEFT's "
                                                 "save_pretrained(..., safe_serialization=True)"));
  }
  std::string shard = files.Like("adapter_model", ".index.json");
  if (shard.empty()) shard = files.Like("adapter_model-", ".safetensors");
  if (!shard.empty()) {
    return absl::UnimplementedError(absl::StrCat(has_no, " but ", shard,
                                                 ": the adapter is sharded; save it as one file with PEFT's "
                                                 "save_pretrained(..., max_shard_size=\"100GB\")"));
  }
  if (files.Has("adapters.safetensors")) {
    return absl::UnimplementedError(
        absl::StrCat(has_no, " but an adapters.safetensors as MLX writes it; convert it to a PEFT adapter"));
  }
  if (const std::string gguf = files.Like("", ".gguf"); !gguf.empty()) {
    return absl::UnimplementedError(
        absl::StrCat(has_no, " but ", gguf, "; publish the PEFT adapter that this GGUF file was made from"));
  }
  return absl::NotFoundError(absl::StrCat(has_no, "; ", files.InWords()));
}

// A name for the card that is suggested: the folder's, as far as it may stand there.
std::string SuggestedName(const fs::path& folder) {
  std::string name;
  for (char c : PathName(folder)) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
    const bool alphanumeric = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
    if (alphanumeric || (!name.empty() && (c == '.' || c == '_' || c == '-'))) name.push_back(c);
  }
  return name.empty() ? "my-expert" : name.substr(0, 64);
}

Status CheckCardAndPrototypes(const fs::path& folder, const Listing& files) {
  if (files.Has(kCard) && files.Has(kPrototypes)) return absl::OkStatus();
  if (files.Has(kCard)) {
    return absl::NotFoundError(absl::StrCat(folder.string(),
                                            " has no prototypes.safetensors, the unit vectors that questions "
                                            "are compared with (docs/expert-format.md); "
                                            "`coterie-experts publish` makes them, as does any embedding of "
                                            "texts from its field by the gateway's embedder"));
  }
  if (const std::string other = files.Like("expert.", ""); !other.empty()) {
    return absl::NotFoundError(
        absl::StrCat(folder.string(), " has no expert.yaml but ", other, "; rename it"));
  }
  return absl::NotFoundError(absl::StrCat(
      folder.string(),
      " is a plain PEFT adapter: it has no expert.yaml, the card that names an expert and says what it is "
      "for",
      files.Has(kPrototypes) ? "" : ", and no prototypes.safetensors, by which questions find it",
      " (docs/expert-format.md says how to make them). The least that a card must say:\n"
      "  name: ",
      SuggestedName(folder), "\n  version: \"1\"\n  description: one line about what it is for"));
}

StatusOr<std::string> ReadRegularFile(const fs::path& path) {
  std::error_code error;
  const fs::file_status status = fs::status(path, error);
  // ReadFile refuses these too; here it is said what they are.
  if (fs::exists(status) && !fs::is_regular_file(status)) {
    return absl::InvalidArgumentError(
        absl::StrCat(path.string(), fs::is_directory(status) ? " is a folder, not a file"
                                                             : " is a pipe or a device, not a file"));
  }
  return ReadFile(path, kMaxFileBytes);
}

}  // namespace

StatusOr<std::vector<ExpertFile>> ReadExpertFolder(const fs::path& folder) {
  RETURN_IF_ERROR(CheckFolder(folder));
  ASSIGN_OR_RETURN(const Listing listing, Listing::Of(folder));
  RETURN_IF_ERROR(CheckConfig(folder, listing));
  RETURN_IF_ERROR(CheckWeights(folder, listing));
  RETURN_IF_ERROR(CheckCardAndPrototypes(folder, listing));
  std::vector<ExpertFile> files;
  for (const std::string_view name : kFiles) {
    ASSIGN_OR_RETURN(std::string content, ReadRegularFile(folder / name));
    files.push_back({std::string(name), std::move(content)});
  }
  return files;
}

}  // namespace coterie::client
