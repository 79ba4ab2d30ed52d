#include "model/format/model_files.h"

#include <algorithm>
#include <limits>
#include <set>
#include <system_error>

#include "common/check.h"
#include "common/file.h"
#include "common/json.h"
#include "common/quoted.h"
#include "model/format/base_digest.h"
#include "model/format/describe.h"
#include "model/format/safetensors.h"
#include "model/format/weight_names.h"

namespace coterie {
namespace {

constexpr size_t kMaxConfigBytes = 4 << 20;
constexpr int kOnceRoles = 3;
constexpr int kLayerRoles = kWeightRoleCount - kOnceRoles;

bool IsMatrix(WeightRole role) {
  switch (role) {
    case WeightRole::kTokenEmbedding:
    case WeightRole::kOutput:
    case WeightRole::kQ:
    case WeightRole::kK:
    case WeightRole::kV:
    case WeightRole::kO:
    case WeightRole::kGate:
    case WeightRole::kUp:
    case WeightRole::kDown:
    case WeightRole::kQkv:
    case WeightRole::kGateUp:
      return true;
    default:
      return false;
  }
}

bool IsNorm(WeightRole role) {
  switch (role) {
    case WeightRole::kFinalNorm:
    case WeightRole::kAttnNorm:
    case WeightRole::kFfnNorm:
    case WeightRole::kQNorm:
    case WeightRole::kKNorm:
    case WeightRole::kAttnPostNorm:
    case WeightRole::kFfnPostNorm:
      return true;
    default:
      return false;
  }
}

// Rows that GGUF's llama converter permutes, with the number of heads they hold; 0 for the others.
int PermutedHeads(const ModelConfig& config, WeightRole role) {
  switch (role) {
    case WeightRole::kQ:
    case WeightRole::kQBias:
      return config.n_heads;
    case WeightRole::kK:
    case WeightRole::kKBias:
      return config.n_kv_heads;
    default:
      return 0;
  }
}

}  // namespace

bool HasWeight(const ModelConfig& config, WeightRole role) {
  switch (role) {
    case WeightRole::kOutput:
      return !config.tied_embeddings;
    case WeightRole::kQBias:
    case WeightRole::kKBias:
    case WeightRole::kVBias:
      return config.qkv_bias;
    case WeightRole::kOBias:
      return config.o_bias;
    case WeightRole::kQNorm:
    case WeightRole::kKNorm:
      return config.qk_norm;
    case WeightRole::kAttnPostNorm:
    case WeightRole::kFfnPostNorm:
      return TraitsOf(config.architecture).post_norms;
    case WeightRole::kQkv:
    case WeightRole::kGateUp:
      return TraitsOf(config.architecture).fused_products;
    case WeightRole::kQ:
    case WeightRole::kK:
    case WeightRole::kV:
    case WeightRole::kGate:
    case WeightRole::kUp:
      return !TraitsOf(config.architecture).fused_products;
    default:
      return true;
  }
}

std::vector<int64_t> WeightShape(const ModelConfig& c, WeightRole role) {
  switch (role) {
    case WeightRole::kTokenEmbedding:
    case WeightRole::kOutput:
      return {c.vocab_size, c.hidden_size};
    case WeightRole::kFinalNorm:
    case WeightRole::kAttnNorm:
    case WeightRole::kFfnNorm:
    case WeightRole::kAttnPostNorm:
    case WeightRole::kFfnPostNorm:
    case WeightRole::kOBias:
      return {c.hidden_size};
    case WeightRole::kQkv:
      return {c.q_size() + 2 * c.kv_size(), c.hidden_size};
    case WeightRole::kGateUp:
      return {2 * c.ffn_size, c.hidden_size};
    case WeightRole::kQ:
      return {c.q_size(), c.hidden_size};
    case WeightRole::kK:
    case WeightRole::kV:
      return {c.kv_size(), c.hidden_size};
    case WeightRole::kO:
      return {c.hidden_size, c.q_size()};
    case WeightRole::kQBias:
      return {c.q_size()};
    case WeightRole::kKBias:
    case WeightRole::kVBias:
      return {c.kv_size()};
    case WeightRole::kQNorm:
    case WeightRole::kKNorm:
      return {c.head_dim};
    case WeightRole::kGate:
    case WeightRole::kUp:
      return {c.ffn_size, c.hidden_size};
    case WeightRole::kDown:
      return {c.hidden_size, c.ffn_size};
  }
  return {};
}

std::vector<int32_t> HalfSplitRowOrder(int n_heads, int head_dim) {
  std::vector<int32_t> order;
  order.reserve(static_cast<size_t>(n_heads) * static_cast<size_t>(head_dim));
  for (int head = 0; head < n_heads; ++head) {
    for (int half = 0; half < 2; ++half) {
      for (int i = 0; i < head_dim / 2; ++i) order.push_back(head * head_dim + 2 * i + half);
    }
  }
  return order;
}

StatusOr<std::unique_ptr<ModelFiles>> ModelFiles::Open(const std::filesystem::path& path) {
  std::error_code error;
  const std::filesystem::file_status status = std::filesystem::status(path, error);
  if (!std::filesystem::exists(status)) {
    return absl::NotFoundError(absl::StrCat("model ", path.string(), " does not exist"));
  }
  if (std::filesystem::is_directory(status)) return OpenFolder(path);
  ASSIGN_OR_RETURN(GgufFile file, GgufFile::Open(path));
  return FromGguf(std::move(file));
}

StatusOr<std::unique_ptr<ModelFiles>> ModelFiles::FromGguf(GgufFile file) {
  auto out = std::unique_ptr<ModelFiles>(new ModelFiles());
  out->name_ = file.name();
  ASSIGN_OR_RETURN(out->config_, ModelConfigFromGguf(file));
  out->gguf_ = std::move(file);
  RETURN_IF_ERROR(out->TakeTensors(out->gguf_->tensors(), /*is_gguf=*/true));
  RETURN_IF_ERROR(out->ReadGgufTokens());
  return out;
}

StatusOr<std::unique_ptr<ModelFiles>> ModelFiles::OpenFolder(const std::filesystem::path& folder) {
  auto out = std::unique_ptr<ModelFiles>(new ModelFiles());
  out->name_ = folder.string();
  out->folder_ = folder;
  const std::string config_name = (folder / "config.json").string();
  ASSIGN_OR_RETURN(const std::string config_text, ReadFile(config_name, kMaxConfigBytes));
  ASSIGN_OR_RETURN(out->config_, ModelConfigFromJson(config_text, config_name));
  ASSIGN_OR_RETURN(const SafetensorsFile tensors, SafetensorsFile::OpenFolder(folder));
  for (const auto& [name, type] : tensors.other_tensors()) {
    if (IsIgnorableTensor(name, /*is_gguf=*/false)) continue;
    return absl::UnimplementedError(absl::StrCat(tensors.name(), ": tensor ", Quoted(name), " has type ",
                                                 type, ", supported are F32, F16, BF16"));
  }
  RETURN_IF_ERROR(out->TakeTensors(tensors.tensors(), /*is_gguf=*/false));
  RETURN_IF_ERROR(out->ReadFolderTokens(config_text, config_name));
  return out;
}

size_t ModelFiles::Slot(WeightRole role, int layer) const {
  const int index = static_cast<int>(role);
  if (!IsPerLayer(role)) return static_cast<size_t>(index);
  return static_cast<size_t>(kOnceRoles + layer * kLayerRoles + index - kOnceRoles);
}

Status ModelFiles::TakeTensors(const std::vector<TensorView>& tensors, bool is_gguf) {
  weights_.resize(static_cast<size_t>(kOnceRoles + config_.n_layers * kLayerRoles));
  std::vector<bool> found(weights_.size());
  const ArchitectureTraits& traits = TraitsOf(config_.architecture);
  for (const TensorView& tensor : tensors) {
    if (IsIgnorableTensor(tensor.name, is_gguf)) continue;
    const std::optional<WeightPlace> place = ParseWeightName(tensor.name, config_, is_gguf);
    // Files of models with tied embeddings may bring the head all the same: it is the embedding once more.
    if (place && place->role == WeightRole::kOutput && config_.tied_embeddings) continue;
    if (!place || place->layer >= config_.n_layers) {
      return absl::InvalidArgumentError(absl::StrCat(
          name_, ": tensor ", Quoted(tensor.name), " is no weight of a ",
          ToAbsl(ArchitectureName(config_.architecture)), " model with ", config_.n_layers, " layers"));
    }
    const std::vector<int64_t> shape = WeightShape(config_, place->role);
    if (tensor.shape != shape) {
      return absl::InvalidArgumentError(absl::StrCat(name_, ": tensor ", Quoted(tensor.name), " has shape ",
                                                     ShapeText(tensor.shape), ", the configuration says ",
                                                     ShapeText(shape)));
    }
    if (!IsMatrix(place->role) && BlockElements(tensor.dtype) != 1) {
      return absl::InvalidArgumentError(absl::StrCat(name_, ": tensor ", Quoted(tensor.name), " is ",
                                                     ToAbsl(DTypeName(tensor.dtype)),
                                                     ", norms and biases must be F32, F16 or BF16"));
    }
    const size_t slot = Slot(place->role, place->layer);
    weights_[slot].tensor = tensor;
    const int permuted_heads = PermutedHeads(config_, place->role);
    if (is_gguf && traits.permuted_gguf && permuted_heads > 0) {
      weights_[slot].row_order = HalfSplitRowOrder(permuted_heads, config_.head_dim);
    }
    if (!is_gguf && traits.norms_less_one && IsNorm(place->role)) weights_[slot].offset = 1;
    found[slot] = true;
    n_bytes_ += tensor.bytes.size();
  }
  for (int r = 0; r < kWeightRoleCount; ++r) {
    const auto role = static_cast<WeightRole>(r);
    if (!HasWeight(config_, role)) continue;
    for (int layer = 0; layer < (IsPerLayer(role) ? config_.n_layers : 1); ++layer) {
      if (!found[Slot(role, layer)]) {
        return absl::InvalidArgumentError(
            absl::StrCat(name_, ": tensor ", Quoted(WeightName(role, layer, config_.architecture, is_gguf)),
                         " is missing; the file holds ", tensors.size(),
                         tensors.empty() ? "" : absl::StrCat(" tensors, such as ", Quoted(tensors[0].name)),
                         "; is it an incomplete download?"));
      }
    }
  }
  return absl::OkStatus();
}

const Weight& ModelFiles::Get(WeightRole role, int layer) const {
  COTERIE_CHECK(HasWeight(config_, role)) << WeightRoleName(role);
  COTERIE_CHECK(layer >= 0 && layer < config_.n_layers) << layer;
  return weights_[Slot(role, layer)];
}

const Weight& ModelFiles::OutputHead() const {
  return Get(config_.tied_embeddings ? WeightRole::kTokenEmbedding : WeightRole::kOutput);
}

std::vector<WeightRole> ModelFiles::Roles(bool per_layer) const {
  std::vector<WeightRole> roles;
  for (int r = 0; r < kWeightRoleCount; ++r) {
    const auto role = static_cast<WeightRole>(r);
    if (HasWeight(config_, role) && IsPerLayer(role) == per_layer) roles.push_back(role);
  }
  return roles;
}

Digest ModelFiles::ComputeDigest() const {
  BaseDigest digest(*this);
  digest.Add(BaseDigest::kOnce);
  for (int layer = 0; layer < config_.n_layers; ++layer) digest.Add(layer);
  return digest.Finish();
}

void ModelFiles::DropPages() const {
  std::set<const MappedFile*> files;
  for (const Weight& weight : weights_) {
    if (weight.tensor.file != nullptr) files.insert(weight.tensor.file.get());
  }
  for (const MappedFile* file : files) file->DropPages();
}

Status ModelFiles::CheckWhole() const {
  for (const Weight& weight : weights_) {
    if (weight.tensor.file != nullptr) RETURN_IF_ERROR(weight.tensor.file->CheckWhole());
  }
  return absl::OkStatus();
}

Status ModelFiles::ReadGgufTokens() {
  const auto check = [this](std::string_view key, int64_t id) -> Status {
    if (id >= 0 && id < config_.vocab_size) return absl::OkStatus();
    return absl::InvalidArgumentError(absl::StrCat(name_, ": ", ToAbsl(key), " is ", id,
                                                   ", the vocabulary has ", config_.vocab_size, " tokens"));
  };
  const auto read = [&](std::string_view key) -> StatusOr<std::optional<int32_t>> {
    if (!gguf_->Has(key)) return std::optional<int32_t>();
    ASSIGN_OR_RETURN(const int64_t id, gguf_->GetInt(key));
    // Some converters write -1 (as 32 or 64 bits) for "none".
    if (id == -1 || id == std::numeric_limits<uint32_t>::max()) return std::optional<int32_t>();
    RETURN_IF_ERROR(check(key, id));
    return std::optional(static_cast<int32_t>(id));
  };
  ASSIGN_OR_RETURN(bos_token_id_, read("tokenizer.ggml.bos_token_id"));
  for (const std::string_view key :
       {"tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id"}) {
    ASSIGN_OR_RETURN(const std::optional<int32_t> id, read(key));
    if (id) named_end_tokens_.push_back({*id, std::string(key)});
  }
  constexpr std::string_view kList = "tokenizer.ggml.eos_token_ids";  // of some converters
  if (gguf_->Has(kList)) {
    ASSIGN_OR_RETURN(const std::vector<int64_t> ids, gguf_->GetInts(kList));
    for (const int64_t id : ids) {
      RETURN_IF_ERROR(check(kList, id));
      named_end_tokens_.push_back({static_cast<int32_t>(id), std::string(kList)});
    }
  }
  return absl::OkStatus();
}

Status ModelFiles::ReadFolderTokens(std::string_view config_text, std::string_view config_name) {
  const auto read = [this](const Json& json, std::string_view name, std::string_view source) -> Status {
    ASSIGN_OR_RETURN(const JsonFields fields, JsonFields::Of(json, name));
    ASSIGN_OR_RETURN(const std::vector<int64_t> ids, fields.Ints("eos_token_id", 0, config_.vocab_size - 1));
    for (const int64_t id : ids) named_end_tokens_.push_back({static_cast<int32_t>(id), std::string(source)});
    if (!bos_token_id_ && fields.Has("bos_token_id")) {
      ASSIGN_OR_RETURN(const int64_t id, fields.Int("bos_token_id", 0, config_.vocab_size - 1));
      bos_token_id_ = static_cast<int32_t>(id);
    }
    return absl::OkStatus();
  };
  const std::filesystem::path generation = folder_ / kGenerationConfigFile;
  std::error_code ignored;
  if (std::filesystem::exists(generation, ignored)) {
    ASSIGN_OR_RETURN(const Json json, ReadJsonFile(generation.string()));
    RETURN_IF_ERROR(read(json, generation.string(), kGenerationConfigFile));
  }
  ASSIGN_OR_RETURN(const Json json, ParseJson(config_text, config_name));
  return read(json, config_name, kModelConfigFile);
}

}  // namespace coterie
