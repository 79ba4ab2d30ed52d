// Hugging Face config.json -> ModelConfig. Field names and defaults are those of transformers' configuration
// classes; version 5 moved the RoPE fields into `rope_parameters`, both places are read.
#include <algorithm>
#include <cmath>
#include <optional>

#include "common/json.h"
#include "model/format/config_check.h"
#include "model/format/describe.h"
#include "model/format/model_config.h"

namespace coterie {
namespace {

constexpr auto kUnimplemented = absl::StatusCode::kUnimplemented;
using Kind = RopeScaling::Kind;

// Where a class has sliding windows, unless layer_types says so layer by layer.
enum class Windows : uint8_t {
  kNowhere,      // Llama: the field sliding_window means nothing
  kEverywhere,   // Mistral
  kUpperLayers,  // Qwen: with use_sliding_window, from layer max_window_layers on
};

struct HfClass {
  std::string_view name;
  Architecture architecture;
  Windows windows;
};

constexpr HfClass kClasses[] = {
    {"LlamaForCausalLM", Architecture::kLlama, Windows::kNowhere},
    {"MistralForCausalLM", Architecture::kLlama, Windows::kEverywhere},
    {"Qwen2ForCausalLM", Architecture::kQwen2, Windows::kUpperLayers},
    {"Qwen3ForCausalLM", Architecture::kQwen3, Windows::kUpperLayers},
};

StatusOr<HfClass> FindClass(const JsonFields& fields) {
  ASSIGN_OR_RETURN(const std::vector<std::string> names, fields.Strings("architectures"));
  if (names.size() == 1) {
    for (const HfClass& known : kClasses) {
      if (known.name == names[0]) return known;
    }
  }
  return fields.Refuse(
      "architectures",
      "supported are LlamaForCausalLM, MistralForCausalLM, Qwen2ForCausalLM and Qwen3ForCausalLM",
      kUnimplemented);
}

// Fields of other models, or of ours, whose value would change the forward pass in a way the decoder does not
// know.
Status RefuseUnsupported(const JsonFields& fields) {
  ASSIGN_OR_RETURN(const std::string activation, fields.StringOr("hidden_act", "silu"));
  if (activation != "silu" && activation != "swish") {
    return fields.Refuse("hidden_act", "supported is \"silu\"", kUnimplemented);
  }
  ASSIGN_OR_RETURN(const bool mlp_bias, fields.BoolOr("mlp_bias", false));
  if (mlp_bias)
    return fields.Refuse("mlp_bias", "biases in the feed-forward layers are not supported", kUnimplemented);
  if (fields.Has("quantization_config")) {
    return fields.Refuse("quantization_config",
                         "pre-quantised safetensors are not supported; use a GGUF file", kUnimplemented);
  }
  return absl::OkStatus();
}

Status ReadYarn(const JsonFields& rope, RopeScaling* s) {
  ASSIGN_OR_RETURN(s->beta_fast, rope.NumberOr("beta_fast", 32, 1e-6, 1e6));
  ASSIGN_OR_RETURN(s->beta_slow, rope.NumberOr("beta_slow", 1, 1e-6, 1e6));
  ASSIGN_OR_RETURN(s->truncate, rope.BoolOr("truncate", true));
  ASSIGN_OR_RETURN(const double mscale, rope.NumberOr("mscale", 0, 0, 100));
  ASSIGN_OR_RETURN(const double mscale_all_dim, rope.NumberOr("mscale_all_dim", 0, 0, 100));
  const auto get_mscale = [s](double m) {
    return s->factor <= 1 ? 1.0 : 0.1 * m * std::log(s->factor) + 1.0;
  };
  const double by_default =
      mscale != 0 && mscale_all_dim != 0 ? get_mscale(mscale) / get_mscale(mscale_all_dim) : get_mscale(1);
  ASSIGN_OR_RETURN(s->attention_factor, rope.NumberOr("attention_factor", by_default, 1e-3, 1e3));
  return absl::OkStatus();
}

Status ReadScaling(const JsonFields& rope, std::string_view type, int max_positions, RopeScaling* s) {
  if (type == "linear") {
    s->kind = Kind::kLinear;
  } else if (type == "dynamic") {
    s->kind = Kind::kDynamic;
  } else if (type == "llama3") {
    s->kind = Kind::kLlama3;
  } else if (type == "yarn") {
    s->kind = Kind::kYarn;
  } else {
    return rope.Refuse(rope.Has("rope_type") ? "rope_type" : "type",
                       "supported are default, linear, dynamic, llama3 and yarn", kUnimplemented);
  }
  if (s->kind == Kind::kYarn || s->kind == Kind::kLlama3) {
    ASSIGN_OR_RETURN(const int64_t original, rope.IntOr("original_max_position_embeddings", max_positions, 1,
                                                        kConfigLimits.max_context_length));
    s->original_context = static_cast<int>(original);
  }
  if (s->kind == Kind::kYarn && !rope.Has("factor")) {
    s->factor = std::clamp(static_cast<double>(max_positions) / s->original_context, 1.0,
                           kConfigLimits.max_rope_factor);
  } else {
    ASSIGN_OR_RETURN(s->factor, rope.Number("factor", 1, kConfigLimits.max_rope_factor));
  }
  if (s->kind == Kind::kYarn) return ReadYarn(rope, s);
  if (s->kind == Kind::kLlama3) {
    ASSIGN_OR_RETURN(s->low_freq_factor, rope.Number("low_freq_factor", 1e-3, 1e6));
    ASSIGN_OR_RETURN(s->high_freq_factor, rope.Number("high_freq_factor", 1e-3, 1e6));
  }
  return absl::OkStatus();
}

Status ReadRope(const JsonFields& fields, ModelConfig* config) {
  constexpr double kDefaultTheta = 10000;
  const double max_theta = kConfigLimits.max_rope_theta;
  ASSIGN_OR_RETURN(config->rope_theta, fields.NumberOr("rope_theta", kDefaultTheta, 1, max_theta));
  ASSIGN_OR_RETURN(const double rotated, fields.NumberOr("partial_rotary_factor", 1, 0, 1));
  if (rotated != 1) return fields.Refuse("partial_rotary_factor", "only 1 is supported", kUnimplemented);

  const std::string_view key = fields.Has("rope_scaling") ? "rope_scaling" : "rope_parameters";
  if (!fields.Has(key)) return absl::OkStatus();
  ASSIGN_OR_RETURN(const JsonFields rope, fields.Object(key));
  for (const auto& [name, value] : rope.object().items()) {
    if (value.is_object()) {
      return rope.Refuse(name, "RoPE parameters per layer type are not supported", kUnimplemented);
    }
  }
  ASSIGN_OR_RETURN(config->rope_theta, rope.NumberOr("rope_theta", config->rope_theta, 1, max_theta));
  ASSIGN_OR_RETURN(const double rotated_here, rope.NumberOr("partial_rotary_factor", 1, 0, 1));
  if (rotated_here != 1) return rope.Refuse("partial_rotary_factor", "only 1 is supported", kUnimplemented);
  ASSIGN_OR_RETURN(const std::string old_type, rope.StringOr("type", "default"));
  ASSIGN_OR_RETURN(const std::string type, rope.StringOr("rope_type", old_type));
  if (type == "default") return absl::OkStatus();
  RopeScaling& scaling = config->rope_scaling;
  RETURN_IF_ERROR(ReadScaling(rope, type, config->context_length, &scaling));
  // max_position_embeddings stays as trained where YaRN is switched on (Qwen's documents, vLLM): the factor
  // says how far positions go.
  if (scaling.kind == Kind::kYarn) config->context_length = YarnContext(scaling);
  return absl::OkStatus();
}

// The layers that look back over a window alone, by layer_types or else by the habit of the class.
StatusOr<std::vector<bool>> WindowedLayers(const JsonFields& fields, Windows windows, int n_layers) {
  std::vector<bool> windowed(static_cast<size_t>(n_layers), windows == Windows::kEverywhere);
  ASSIGN_OR_RETURN(const std::vector<std::string> types, fields.Strings("layer_types"));
  if (!types.empty()) {
    for (size_t i = 0; i < types.size(); ++i) {
      if (types[i] != "full_attention" && types[i] != "sliding_attention") {
        return fields.Refuse("layer_types", "supported are full_attention and sliding_attention",
                             kUnimplemented);
      }
      if (i < windowed.size()) windowed[i] = types[i] == "sliding_attention";
    }
    if (types.size() != windowed.size()) {
      return fields.Refuse("layer_types",
                           absl::StrCat("it has ", types.size(),
                                        " entries, expected one for each of num_hidden_layers ", n_layers));
    }
  } else if (windows == Windows::kUpperLayers) {
    ASSIGN_OR_RETURN(const bool switched_on, fields.BoolOr("use_sliding_window", false));
    ASSIGN_OR_RETURN(const int64_t first,
                     fields.IntOr("max_window_layers", 28, 0, kConfigLimits.max_layers));  // Qwen2Config's 28
    for (int64_t i = first; switched_on && i < n_layers; ++i) windowed[static_cast<size_t>(i)] = true;
  }
  return windowed;
}

Status ReadWindows(const JsonFields& fields, const HfClass& hf, ModelConfig* config) {
  ASSIGN_OR_RETURN(const std::vector<bool> windowed, WindowedLayers(fields, hf.windows, config->n_layers));
  const bool any = std::find(windowed.begin(), windowed.end(), true) != windowed.end();
  if (!any) return absl::OkStatus();
  if (!fields.Has("sliding_window")) {
    // Null switches windows off, unless a layer is said to have one.
    if (fields.Has("layer_types")) {
      return fields.Refuse("sliding_window", "but layer_types has sliding_attention");
    }
    if (fields.object().contains("sliding_window")) return absl::OkStatus();
  }
  constexpr int kDefaultWindow = 4096;  // of MistralConfig, Qwen2Config and Qwen3Config
  ASSIGN_OR_RETURN(const int64_t window,
                   fields.IntOr("sliding_window", kDefaultWindow, 1, kConfigLimits.max_context_length));
  config->layers.resize(windowed.size());
  for (size_t i = 0; i < windowed.size(); ++i) {
    if (windowed[i]) config->layers[i].window = static_cast<int>(window);
  }
  return absl::OkStatus();
}

Status ReadSizes(const JsonFields& fields, const HfClass& hf, ModelConfig* config) {
  const ConfigLimits& limits = kConfigLimits;
  const auto size = [&fields](std::string_view key, int max, int* out) -> Status {
    ASSIGN_OR_RETURN(const int64_t value, fields.Int(key, 1, max));
    *out = static_cast<int>(value);
    return absl::OkStatus();
  };
  RETURN_IF_ERROR(size("num_hidden_layers", limits.max_layers, &config->n_layers));
  RETURN_IF_ERROR(size("hidden_size", limits.max_hidden_size, &config->hidden_size));
  RETURN_IF_ERROR(size("num_attention_heads", limits.max_heads, &config->n_heads));
  RETURN_IF_ERROR(size("intermediate_size", limits.max_ffn_size, &config->ffn_size));
  RETURN_IF_ERROR(size("vocab_size", limits.max_vocab_size, &config->vocab_size));
  RETURN_IF_ERROR(size("max_position_embeddings", limits.max_context_length, &config->context_length));
  // Mistral's and Qwen's classes have defaults of their own here that differ from one version to the next.
  if (hf.name == "LlamaForCausalLM" && !fields.Has("num_key_value_heads")) {
    config->n_kv_heads = config->n_heads;
  } else {
    RETURN_IF_ERROR(size("num_key_value_heads", limits.max_heads, &config->n_kv_heads));
  }
  if (fields.Has("head_dim")) return size("head_dim", limits.max_head_dim, &config->head_dim);
  if (hf.architecture == Architecture::kQwen3) {
    config->head_dim = 128;  // Qwen3Config's default, whatever the hidden size
    return absl::OkStatus();
  }
  config->head_dim = config->hidden_size / config->n_heads;
  if (config->head_dim < 1 || config->head_dim > limits.max_head_dim ||
      config->hidden_size % config->n_heads != 0) {
    return fields.Refuse("num_attention_heads",
                         absl::StrCat("it does not divide hidden_size ", config->hidden_size,
                                      " into heads of 1 to ", limits.max_head_dim));
  }
  return absl::OkStatus();
}

}  // namespace

StatusOr<ModelConfig> ModelConfigFromJson(std::string_view text, std::string_view name) {
  ASSIGN_OR_RETURN(const Json json, ParseJson(text, name));
  ASSIGN_OR_RETURN(const JsonFields fields, JsonFields::Of(json, name));
  ASSIGN_OR_RETURN(const HfClass hf, FindClass(fields));
  RETURN_IF_ERROR(RefuseUnsupported(fields));
  ModelConfig config;
  config.architecture = hf.architecture;
  RETURN_IF_ERROR(ReadSizes(fields, hf, &config));
  ASSIGN_OR_RETURN(const double eps, fields.NumberOr("rms_norm_eps", 1e-6, 1e-12, 0.1));
  config.rms_eps = static_cast<float>(eps);
  RETURN_IF_ERROR(ReadRope(fields, &config));
  RETURN_IF_ERROR(ReadWindows(fields, hf, &config));

  // Qwen2 has biases on Q, K and V by construction; Mistral has none; Llama and Qwen3 have a switch for all
  // four.
  ASSIGN_OR_RETURN(const bool attention_bias, fields.BoolOr("attention_bias", false));
  const bool has_switch = hf.name == "LlamaForCausalLM" || hf.architecture == Architecture::kQwen3;
  config.qkv_bias = hf.architecture == Architecture::kQwen2 || (has_switch && attention_bias);
  config.o_bias = has_switch && attention_bias;
  config.qk_norm = hf.architecture == Architecture::kQwen3;
  ASSIGN_OR_RETURN(config.tied_embeddings, fields.BoolOr("tie_word_embeddings", false));
  RETURN_IF_ERROR(CheckConsistent(config, name));
  return config;
}

}  // namespace coterie
