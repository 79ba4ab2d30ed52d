#include "model/publishing/read_folder.h"

#include <algorithm>
#include <set>
#include <string_view>
#include <system_error>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_join.h"
#include "common/file.h"
#include "common/ids.h"
#include "common/json.h"
#include "common/path_name.h"
#include "common/quoted.h"
#include "model/format/model_files.h"
#include "model/format/safetensors.h"
#include "model/lora/module_resolver.h"
#include "model/publishing/folder_listing.h"
#include "model/publishing/gguf_adapter.h"
#include "model/publishing/read_weights.h"
#include "model/store/expert_card.h"
#include "model/store/staging.h"

namespace coterie {
namespace {

namespace fs = std::filesystem;

constexpr size_t kMaxConfigJsonBytes = 4 << 20;  // what is larger is refused by whoever parses it

bool IsGguf(const fs::path& path) { return path.extension() == ".gguf"; }

Status CheckIsFolder(const fs::path& folder) {
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
      absl::StrCat(folder.string(), " is no folder; name the folder that holds ", ToAbsl(kConfigFile), ", ",
                   ToAbsl(kWeightsFile), ", ", ToAbsl(kCardFile), ", ", ToAbsl(kPrototypesFile),
                   ", or a GGUF LoRA adapter"));
}

// models--ORG--NAME of a Hugging Face cache holds what was downloaded in snapshots/COMMIT.
StatusOr<fs::path> SnapshotOf(const fs::path& folder) {
  std::error_code error;
  const fs::path snapshots = folder / "snapshots";
  if (!fs::is_directory(snapshots, error) || fs::exists(folder / kConfigFile, error)) return folder;
  const StatusOr<std::string> commit = ReadFile(folder / "refs" / "main", 256);
  if (commit.ok()) {
    const fs::path main = snapshots / std::string(absl::StripAsciiWhitespace(*commit));
    if (fs::is_directory(main, error)) return main;
  }
  ASSIGN_OR_RETURN(const FolderListing listing, FolderListing::Of(snapshots));
  if (listing.names().size() == 1) return snapshots / listing.names().front();
  return absl::NotFoundError(absl::StrCat(
      folder.string(), " is a cache of downloads; name one of its snapshots: ", snapshots.string(),
      listing.names().empty() ? " is empty" : "/ " + listing.InWords()));
}

Status MissingConfig(const fs::path& folder, const FolderListing& files) {
  std::string why;
  if (files.Has("config.json") && !files.Like("model", ".safetensors").empty()) {
    why = "; it looks like a whole model, and an expert is a LoRA adapter of the base";
  } else if (const std::string checkpoint = files.Like("checkpoint-", ""); !checkpoint.empty()) {
    why = absl::StrCat("; it holds checkpoints of a training: publish one of them, such as ",
                       (folder / checkpoint).string());
  } else {
    std::error_code error;
    for (const std::string& name : files.names()) {
      if (!fs::exists(folder / name / kConfigFile, error)) continue;
      why = absl::StrCat("; the adapter stands in ", (folder / name).string(), ": publish that");
      break;
    }
    if (why.empty()) why = absl::StrCat(", which PEFT's save_pretrained() writes; ", files.InWords());
  }
  return absl::NotFoundError(absl::StrCat(folder.string(), " has no ", ToAbsl(kConfigFile), why));
}

// The modules that the weights change: {"model.layers.0.self_attn.q_proj", …}. Empty where their names are
// not PEFT's.
std::set<std::string> ModulesOfWeights(std::string_view weights) {
  std::set<std::string> modules;
  const auto file =
      SafetensorsFile::Parse({reinterpret_cast<const uint8_t*>(weights.data()), weights.size()}, "weights");
  if (!file.ok()) return modules;
  for (const TensorView& tensor : file->tensors()) {
    std::string_view name = tensor.name;
    constexpr std::string_view kPrefix = "base_model.model.", kFactor = ".lora_A.weight";
    if (!name.starts_with(kPrefix) || !name.ends_with(kFactor)) continue;
    name.remove_prefix(kPrefix.size());
    name.remove_suffix(std::min(name.size(), kFactor.size()));
    if (!name.empty()) modules.emplace(name);
  }
  return modules;
}

class FolderReader {
 public:
  FolderReader(const ModelConfig* base, std::vector<Status>* problems) : base_(base), problems_(problems) {}

  FolderContent Read(const fs::path& path) {
    content_.folder = path;
    std::error_code error;
    if (IsGguf(path) && fs::is_regular_file(path, error)) {
      ReadGguf(path);
      return std::move(content_);
    }
    if (!Ok(CheckIsFolder(path))) return std::move(content_);
    const StatusOr<fs::path> folder = SnapshotOf(path);
    if (!Ok(folder.status())) return std::move(content_);
    content_.folder = *folder;
    const StatusOr<FolderListing> files = FolderListing::Of(*folder);
    if (!Ok(files.status())) return std::move(content_);
    ReadOptional(*files, kCardFile, &content_.card);
    content_.composite = content_.card.has_value() && SaysComposite(*content_.card);
    if (content_.composite) {
      RefuseAdapter(*files);
    } else {
      ReadAdapter(*files);
    }
    ReadOptional(*files, kPrototypesFile, &content_.prototypes);
    if (const std::string other = files->Like("expert.", ""); !files->Has(kCardFile) && !other.empty()) {
      Ok(absl::NotFoundError(absl::StrCat(folder->string(), " has no ", ToAbsl(kCardFile), " but ",
                                          Shown(other), "; rename it")));
    }
    NoteTheRest(*files);
    return std::move(content_);
  }

 private:
  bool Ok(Status status) {
    if (status.ok()) return true;
    problems_->push_back(std::move(status));
    return false;
  }
  void Take(StatusOr<std::string> read, std::optional<std::string>* to) {
    if (Ok(read.status())) *to = *std::move(read);
  }
  void ReadOptional(const FolderListing& files, std::string_view name, std::optional<std::string>* to) {
    if (files.Has(name)) Take(ReadRegularFile(content_.folder / name), to);
  }

  void RefuseAdapter(const FolderListing& files) {
    for (const std::string_view name : {kConfigFile, kWeightsFile}) {
      if (!files.Has(name)) continue;
      Ok(absl::InvalidArgumentError(absl::StrCat((content_.folder / name).string(), " is an adapter, and ",
                                                 ToAbsl(kCardFile),
                                                 " says that the expert is made of others, which has none of "
                                                 "its own; take one of the two out")));
    }
  }

  void ReadAdapter(const FolderListing& files) {
    const std::vector<std::string> ggufs = files.AllLike("", ".gguf");
    const bool has_weights = files.Has(kWeightsFile) || HasShards(files);
    if (!has_weights && ggufs.size() == 1 && files.Like("adapter_model", ".bin").empty()) {
      return ReadGguf(content_.folder / ggufs.front());
    }
    if (!has_weights && ggufs.size() > 1) {
      Ok(absl::InvalidArgumentError(absl::StrCat(content_.folder.string(), " holds ", ggufs.size(),
                                                 " GGUF files, ", FirstNames(ggufs),
                                                 "; name the one that is the adapter")));
      return;
    }
    if (files.Has(kConfigFile)) {
      Take(ReadRegularFile(content_.folder / kConfigFile), &content_.config);
    } else {
      Ok(MissingConfig(content_.folder, files));
    }
    if (files.Has(kWeightsFile)) {
      Take(ReadRegularFile(content_.folder / kWeightsFile), &content_.weights);
    } else if (has_weights) {
      Take(JoinShards(content_.folder, files), &content_.weights);
      if (content_.weights.has_value()) content_.notes.push_back("the weights were joined from their shards");
    } else if (files.Has(kConfigFile) || !files.Like("adapter", "").empty()) {
      Ok(MissingWeights(content_.folder, files));
    }
    NameTargets();
    NotePatterns();
  }

  void ReadGguf(const fs::path& path) {
    const StatusOr<std::string> bytes = ReadRegularFile(path);
    if (!Ok(bytes.status())) return;
    const auto file =
        GgufFile::Parse({reinterpret_cast<const uint8_t*>(bytes->data()), bytes->size()}, path.string());
    if (!Ok(file.status())) return;
    const size_t n_before = problems_->size();
    PeftFiles adapter = ConvertGgufAdapter(*file, base_, problems_);
    if (problems_->size() > n_before) return;
    content_.config = std::move(adapter.config);
    content_.weights = std::move(adapter.weights);
    content_.notes.push_back(
        absl::StrCat("the GGUF adapter ", Shown(path.filename().string()), " was converted to PEFT's files"));
  }

  // Configurations of old PEFT versions may leave out which modules are adapted; the weights know.
  void NameTargets() {
    if (!content_.config.has_value() || !content_.weights.has_value()) return;
    if (content_.config->size() > kMaxConfigJsonBytes) return;
    StatusOr<Json> config = ParseJson(*content_.config, ToStd("config"));
    if (!config.ok() || !config->is_object()) return;
    if (config->contains("target_modules") && !(*config)["target_modules"].is_null()) return;
    std::set<std::string> modules;  // of a layer: {"q_proj", "v_proj"}
    for (const std::string& name : ModulesOfWeights(*content_.weights)) {
      modules.insert(name.substr(name.rfind('.') + 1));
    }
    if (modules.empty()) return;
    (*config)["target_modules"] = modules;
    content_.config = config->dump(1);
    content_.notes.push_back(absl::StrCat(
        ToAbsl(kConfigFile),
        " names no target_modules; those of the weights are taken: ", absl::StrJoin(modules, ", ")));
  }

  // PEFT passes over a key of rank_pattern or alpha_pattern that fits no module without a word
  // (huggingface/peft issue 3582), at training, too: the adapter computes what it was trained to, hardly what
  // its author wanted.
  void NotePatterns() {
    if (!content_.config.has_value() || !content_.weights.has_value()) return;
    std::vector<Status> wrong;  // is told by whoever checks the configuration
    const PeftConfig config = ReadPeftConfig(*content_.config, "config", {}, &wrong);
    const std::set<std::string> modules = ModulesOfWeights(*content_.weights);
    if (!wrong.empty() || modules.empty()) return;
    const auto unused = UnusedPatternKeys(config, {modules.begin(), modules.end()});
    if (!unused.ok()) return;
    for (const std::string& key : *unused) {
      content_.notes.push_back(absl::StrCat(key, " decides for none of the ", modules.size(),
                                            " adapted modules; was it meant for another name?"));
    }
  }

  void NoteTheRest(const FolderListing& files) {
    std::vector<std::string> others;
    for (const std::string& name : files.names()) {
      const bool weights =
          name.starts_with("adapter_model") && name.find(".safetensors") != std::string::npos;
      const bool converted = IsGguf(name) && !files.Has(kWeightsFile) && content_.weights.has_value();
      if (name == kConfigFile || name == kCardFile || name == kPrototypesFile || weights || converted)
        continue;
      others.push_back(name);
    }
    if (!others.empty()) content_.notes.push_back("passed over: " + FirstNames(others));
  }

  const ModelConfig* const base_;
  std::vector<Status>* const problems_;
  FolderContent content_;
};

}  // namespace

FolderContent ReadFolder(const fs::path& path, const ModelConfig* base, std::vector<Status>* problems) {
  return FolderReader(base, problems).Read(path);
}

std::string SuggestedName(const fs::path& folder) {
  std::string name;
  const std::string written = PathName(IsGguf(folder) ? fs::path(folder).replace_extension() : folder);
  for (const char c : written) {
    const char lower = absl::ascii_tolower(static_cast<unsigned char>(c));
    if (absl::ascii_isalnum(static_cast<unsigned char>(lower)) ||
        (!name.empty() && (lower == '.' || lower == '_' || lower == '-'))) {
      name.push_back(lower);
    }
  }
  if (name.empty()) return "my-expert";
  name = name.substr(0, kMaxExpertNameBytes);
  return ValidateExpertName(name).ok() ? name : "my-" + name;  // "base" and "auto" mean something else
}

Status CheckCardAndPrototypes(const FolderContent& content, const fs::path& path) {
  if (content.card.has_value() && (content.prototypes.has_value() || content.composite))
    return absl::OkStatus();
  if (content.card.has_value()) {
    return absl::NotFoundError(absl::StrCat(
        path.string(),
        " has no prototypes.safetensors, the unit vectors that questions are compared with "
        "(docs/expert-format.md); add --examples FILE, questions of its field one on a line, or --documents "
        "FOLDER, and they are made"));
  }
  return absl::NotFoundError(absl::StrCat(
      path.string(),
      " is a plain PEFT adapter: it has no expert.yaml, the card that names an expert and says what it is "
      "for",
      content.prototypes.has_value() ? "" : ", and no prototypes.safetensors, by which questions find it",
      " (docs/expert-format.md). Both are made by\n  coterie experts publish ", path.string(),
      " --description \"one line about what it is for\" --examples questions.txt\n"
      "or write the card yourself. The least that it must say:\n  name: ",
      SuggestedName(content.folder), "\n  version: \"1\"\n  description: one line about what it is for"));
}

StatusOr<ModelConfig> ReadBaseShape(const fs::path& path) {
  std::error_code error;
  if (IsGguf(path)) {
    ASSIGN_OR_RETURN(const GgufFile file, GgufFile::Open(path));
    return ModelConfigFromGguf(file);
  }
  const fs::path json = fs::is_directory(path, error) ? path / kModelConfigFile : path;
  ASSIGN_OR_RETURN(const std::string text, ReadFile(json, kMaxConfigJsonBytes));
  return ModelConfigFromJson(text, json.string());
}

}  // namespace coterie
