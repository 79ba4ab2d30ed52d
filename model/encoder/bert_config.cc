#include "model/encoder/bert_config.h"

#include <algorithm>
#include <system_error>

#include "common/json.h"
#include "model/format/describe.h"

namespace coterie {
namespace {

constexpr auto kUnimplemented = absl::StatusCode::kUnimplemented;

Status ReadModel(const JsonFields& fields, BertConfig* config) {
  ASSIGN_OR_RETURN(const std::string type, fields.String("model_type"));
  if (type != "bert") return fields.Refuse("model_type", "supported is \"bert\"", kUnimplemented);
  ASSIGN_OR_RETURN(const std::string activation, fields.StringOr("hidden_act", "gelu"));
  if (activation != "gelu") return fields.Refuse("hidden_act", "supported is \"gelu\"", kUnimplemented);
  ASSIGN_OR_RETURN(const std::string positions, fields.StringOr("position_embedding_type", "absolute"));
  if (positions != "absolute") {
    return fields.Refuse("position_embedding_type", "supported is \"absolute\"", kUnimplemented);
  }
  ASSIGN_OR_RETURN(const bool is_decoder, fields.BoolOr("is_decoder", false));
  if (is_decoder) return fields.Refuse("is_decoder", "only encoders are supported", kUnimplemented);

  const auto size = [&fields](std::string_view key, int max, int* out) -> Status {
    ASSIGN_OR_RETURN(const int64_t value, fields.Int(key, 1, max));
    *out = static_cast<int>(value);
    return absl::OkStatus();
  };
  RETURN_IF_ERROR(size("num_hidden_layers", 256, &config->n_layers));
  RETURN_IF_ERROR(size("hidden_size", 1 << 14, &config->hidden_size));
  RETURN_IF_ERROR(size("num_attention_heads", 256, &config->n_heads));
  RETURN_IF_ERROR(size("intermediate_size", 1 << 16, &config->ffn_size));
  RETURN_IF_ERROR(size("vocab_size", 1 << 22, &config->vocab_size));
  RETURN_IF_ERROR(size("max_position_embeddings", 1 << 16, &config->n_positions));
  RETURN_IF_ERROR(size("type_vocab_size", 16, &config->n_token_types));
  ASSIGN_OR_RETURN(const double eps, fields.NumberOr("layer_norm_eps", 1e-12, 1e-15, 0.1));
  config->layer_norm_eps = static_cast<float>(eps);
  config->head_dim = config->hidden_size / config->n_heads;
  constexpr int kMaxHeadDim = 256;
  if (config->hidden_size % config->n_heads != 0 || config->head_dim > kMaxHeadDim) {
    return fields.Refuse("num_attention_heads",
                         absl::StrCat("it does not divide hidden_size ", config->hidden_size,
                                      " into heads of 1 to ", kMaxHeadDim));
  }
  return absl::OkStatus();
}

// Mean pooling, said in either of the two ways that sentence-transformers has written it.
Status CheckPooling(const JsonFields& fields, int hidden_size) {
  ASSIGN_OR_RETURN(const std::string mode, fields.StringOr("pooling_mode", ""));
  if (!mode.empty() && mode != "mean")
    return fields.Refuse("pooling_mode", "supported is \"mean\"", kUnimplemented);
  bool has_mean = mode == "mean";
  for (const auto& [key, value] : fields.object().items()) {
    if (key.rfind("pooling_mode_", 0) != 0) continue;
    ASSIGN_OR_RETURN(const bool on, fields.BoolOr(key, false));
    if (key == "pooling_mode_mean_tokens") {
      has_mean |= on;
    } else if (on) {
      return fields.Refuse(key, "supported is pooling_mode_mean_tokens alone", kUnimplemented);
    }
  }
  if (!has_mean)
    return fields.Refuse("pooling_mode_mean_tokens", "mean pooling is the one supported", kUnimplemented);
  for (const std::string_view key : {"word_embedding_dimension", "embedding_dimension"}) {
    if (!fields.Has(key)) continue;
    ASSIGN_OR_RETURN(const int64_t dimension, fields.Int(key, 1, 1 << 14));
    if (dimension != hidden_size) return fields.Refuse(key, absl::StrCat("the encoder has ", hidden_size));
  }
  return absl::OkStatus();
}

// The modules a sentence-transformers model chains: Transformer in the folder itself, Pooling, perhaps
// Normalize. Returns the folder of the pooling module.
StatusOr<std::string> PoolingFolder(const Json& modules, const std::string& name) {
  if (!modules.is_array()) return absl::InvalidArgumentError(absl::StrCat(name, " is no list of modules"));
  std::string pooling;
  for (size_t i = 0; i < modules.size(); ++i) {
    ASSIGN_OR_RETURN(const JsonFields module, JsonFields::Of(modules[i], name));
    ASSIGN_OR_RETURN(const std::string type, module.String("type"));
    ASSIGN_OR_RETURN(const std::string path, module.StringOr("path", ""));
    const std::string kind = type.substr(type.rfind('.') + 1);
    const bool in_order = (i == 0 && kind == "Transformer" && path.empty()) ||
                          (i == 1 && kind == "Pooling") || (i == 2 && kind == "Normalize");
    if (!in_order) {
      return module.Refuse("type", "supported are Transformer, Pooling and Normalize, in this order",
                           kUnimplemented);
    }
    if (kind == "Pooling") {
      if (path.empty() || path.find('/') != std::string::npos || path == "..") {
        return module.Refuse("path", "expected the name of a folder");
      }
      pooling = path;
    }
  }
  if (pooling.empty()) return absl::InvalidArgumentError(absl::StrCat(name, " names no Pooling module"));
  return pooling;
}

Status ReadSentenceConfig(const std::filesystem::path& folder, BertConfig* config) {
  const std::string name = (folder / "sentence_bert_config.json").string();
  ASSIGN_OR_RETURN(const Json json, ReadJsonFile(name));
  ASSIGN_OR_RETURN(const JsonFields fields, JsonFields::Of(json, name));
  ASSIGN_OR_RETURN(const int64_t max_tokens,
                   fields.IntOr("max_seq_length", config->n_positions, 3, config->n_positions));
  config->max_tokens = static_cast<int>(max_tokens);
  ASSIGN_OR_RETURN(const bool lower_case, fields.BoolOr("do_lower_case", false));
  if (lower_case) {
    return fields.Refuse("do_lower_case", "the tokenizer's own normalisation is the one supported",
                         kUnimplemented);
  }
  const std::string more_name = (folder / "config_sentence_transformers.json").string();
  std::error_code ignored;
  if (!std::filesystem::exists(more_name, ignored)) return absl::OkStatus();
  ASSIGN_OR_RETURN(const Json more_json, ReadJsonFile(more_name));
  ASSIGN_OR_RETURN(const JsonFields more, JsonFields::Of(more_json, more_name));
  if (more.Has("default_prompt_name")) {
    return more.Refuse("default_prompt_name", "prompts are not supported", kUnimplemented);
  }
  return absl::OkStatus();
}

}  // namespace

StatusOr<BertConfig> ReadBertConfig(const std::filesystem::path& folder) {
  BertConfig config;
  const std::string config_name = (folder / "config.json").string();
  ASSIGN_OR_RETURN(const Json json, ReadJsonFile(config_name));
  ASSIGN_OR_RETURN(const JsonFields fields, JsonFields::Of(json, config_name));
  RETURN_IF_ERROR(ReadModel(fields, &config));
  RETURN_IF_ERROR(ReadSentenceConfig(folder, &config));

  const std::string modules_name = (folder / "modules.json").string();
  ASSIGN_OR_RETURN(const Json modules, ReadJsonFile(modules_name));
  ASSIGN_OR_RETURN(const std::string pooling, PoolingFolder(modules, modules_name));
  const std::string pooling_name = (folder / pooling / "config.json").string();
  ASSIGN_OR_RETURN(const Json pooling_json, ReadJsonFile(pooling_name));
  ASSIGN_OR_RETURN(const JsonFields pooling_fields, JsonFields::Of(pooling_json, pooling_name));
  RETURN_IF_ERROR(CheckPooling(pooling_fields, config.hidden_size));
  return config;
}

}  // namespace coterie
