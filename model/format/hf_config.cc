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
  kAllButSome,   // Gemma: not in every sliding_window_pattern-th layer
};

// A class and what it takes for fields that a file leaves out.
struct HfClass {
  std::string_view name;
  Architecture architecture;
  Windows windows = Windows::kNowhere;
  int window = 0;                  // 0: none
  int head_dim = 0;                // 0: hidden_size / num_attention_heads
  bool all_heads_have_kv = false;  // num_key_value_heads = num_attention_heads
  bool tied_embeddings = false;
  double rope_theta = 10000;
  double rms_eps = 1e-6;
  // Not defaults: whether attention_bias switches the biases of Q, K, V and O, and the one activation there
  // is.
  bool has_bias_switch = false;
  std::string_view activation_field = "hidden_act", activation = "silu";
};

constexpr HfClass kClasses[] = {
    {.name = "LlamaForCausalLM",
     .architecture = Architecture::kLlama,
     .all_heads_have_kv = true,
     .has_bias_switch = true},
    {.name = "MistralForCausalLM",
     .architecture = Architecture::kLlama,
     .windows = Windows::kEverywhere,
     .window = 4096},
    {.name = "Qwen2ForCausalLM",
     .architecture = Architecture::kQwen2,
     .windows = Windows::kUpperLayers,
     .window = 4096},
    {.name = "Qwen3ForCausalLM",
     .architecture = Architecture::kQwen3,
     .windows = Windows::kUpperLayers,
     .window = 4096,
     .head_dim = 128,
     .has_bias_switch = true},
    {.name = "Phi3ForCausalLM",
     .architecture = Architecture::kPhi3,
     .windows = Windows::kEverywhere,
     .all_heads_have_kv = true,
     .rms_eps = 1e-5},
    {.name = "Gemma3ForCausalLM",
     .architecture = Architecture::kGemma3,
     .windows = Windows::kAllButSome,
     .window = 4096,
     .head_dim = 256,
     .tied_embeddings = true,
     .rope_theta = 1e6,
     .has_bias_switch = true,
     .activation_field = "hidden_activation",
     .activation = "gelu_pytorch_tanh"},
};

StatusOr<HfClass> FindClass(const JsonFields& fields) {
  ASSIGN_OR_RETURN(const std::vector<std::string> names, fields.Strings("architectures"));
  if (names.size() == 1) {
    for (const HfClass& known : kClasses) {
      if (known.name == names[0]) return known;
    }
  }
  std::string supported;
  for (const HfClass& known : kClasses) {
    const bool last = &known == std::end(kClasses) - 1;
    absl::StrAppend(&supported, supported.empty() ? "" : last ? " and " : ", ", ToAbsl(known.name));
  }
  return fields.Refuse("architectures", absl::StrCat("supported are ", supported), kUnimplemented);
}

// Fields of other models, or of ours, whose value would change the forward pass in a way the decoder does not
// know.
Status RefuseUnsupported(const JsonFields& fields, const HfClass& hf) {
  ASSIGN_OR_RETURN(const std::string activation, fields.StringOr(hf.activation_field, hf.activation));
  if (activation != hf.activation && !(hf.activation == "silu" && activation == "swish")) {
    return fields.Refuse(hf.activation_field, absl::StrCat("supported is \"", ToAbsl(hf.activation), "\""),
                         kUnimplemented);
  }
  constexpr std::pair<std::string_view, std::string_view> kSwitches[] = {
      {"mlp_bias", "biases in the feed-forward layers are not supported"},
      {"lm_head_bias", "a bias of the head is not supported"},
      {"use_bidirectional_attention", "only causal models are supported"}};
  for (const auto& [field, what] : kSwitches) {
    ASSIGN_OR_RETURN(const bool on, fields.BoolOr(field, false));
    if (on) return fields.Refuse(field, what, kUnimplemented);
  }
  for (const std::string_view field : {"attn_logit_softcapping", "final_logit_softcapping"}) {
    if (fields.Has(field)) return fields.Refuse(field, "a cap on logits is not supported", kUnimplemented);
  }
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

// `max_positions` are those of the whole file, `original` those before its scaling.
Status ReadLongRope(const JsonFields& rope, int max_positions, int original, RopeScaling* s) {
  s->kind = Kind::kLongRope;
  s->original_context = original;
  const double by_ratio = std::max(1.0, static_cast<double>(max_positions) / original);
  ASSIGN_OR_RETURN(const double factor,
                   rope.NumberOr("factor", by_ratio, 1, kConfigLimits.max_context_length));
  const double by_default =
      factor <= 1 || original <= 1 ? 1 : std::sqrt(1 + std::log(factor) / std::log(original));
  ASSIGN_OR_RETURN(const double attention, rope.NumberOr("attention_factor", by_default, 1e-3, 1e3));
  s->attention_factor =
      static_cast<float>(attention);  // as GGUF has it, and as transformers multiplies by it
  for (const auto& [key, factors] :
       {std::pair("short_factor", &s->short_factors), std::pair("long_factor", &s->long_factors)}) {
    ASSIGN_OR_RETURN(const std::vector<double> values,
                     rope.Numbers(key, 1e-3, kConfigLimits.max_rope_factor));
    factors->assign(values.begin(), values.end());
  }
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
                       "supported are default, linear, dynamic, llama3, yarn and, for Phi-3, longrope",
                       kUnimplemented);
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

// The fields of RoPE where they stand: of all layers, and of those with windows if they have their own.
struct RopeFields {
  JsonFields all;
  std::optional<JsonFields> local;
};
StatusOr<std::optional<RopeFields>> FindRope(const JsonFields& fields, bool has_local) {
  const std::string_view key = fields.Has("rope_scaling") ? "rope_scaling" : "rope_parameters";
  if (!fields.Has(key)) return std::optional<RopeFields>();
  ASSIGN_OR_RETURN(JsonFields rope, fields.Object(key));
  std::optional<JsonFields> local;
  if (has_local && rope.Has("full_attention")) {
    if (rope.Has("sliding_attention")) {
      ASSIGN_OR_RETURN(local, rope.Object("sliding_attention"));
    }
    ASSIGN_OR_RETURN(rope, rope.Object("full_attention"));
  }
  for (const auto& [name, value] : rope.object().items()) {
    if (value.is_object()) {
      return rope.Refuse(name, "RoPE parameters per layer type are not supported", kUnimplemented);
    }
  }
  return std::optional(RopeFields{std::move(rope), std::move(local)});
}

StatusOr<std::string> RopeType(const JsonFields& rope) {
  ASSIGN_OR_RETURN(const std::string old_type, rope.StringOr("type", "default"));
  return rope.StringOr("rope_type", old_type);
}

// The first values of a head that rotate, from the place of the field that stands last.
Status ReadRotaryDim(const JsonFields& fields, const JsonFields* rope, ModelConfig* config) {
  for (const JsonFields* place : {&fields, rope}) {
    if (place == nullptr || !place->Has("partial_rotary_factor")) continue;
    ASSIGN_OR_RETURN(const double rotated, place->Number("partial_rotary_factor", 0, 1));
    if (rotated != 1 && !TraitsOf(config->architecture).partial_rotary) {
      return place->Refuse("partial_rotary_factor", "only 1 is supported", kUnimplemented);
    }
    config->rotary_dim = static_cast<int>(config->head_dim * rotated);
    if (config->rotary_dim < 2) {
      return place->Refuse("partial_rotary_factor",
                           absl::StrCat("it leaves less than a pair of ", config->head_dim, " values"));
    }
  }
  return absl::OkStatus();
}

Status ReadLocalRope(const JsonFields& fields, const std::optional<JsonFields>& local, ModelConfig* config) {
  constexpr double kDefaultTheta = 10000;
  const double max_theta = kConfigLimits.max_rope_theta;
  ASSIGN_OR_RETURN(config->local_rope_theta,
                   fields.NumberOr("rope_local_base_freq", kDefaultTheta, 1, max_theta));
  if (!local) return absl::OkStatus();
  ASSIGN_OR_RETURN(config->local_rope_theta,
                   local->NumberOr("rope_theta", config->local_rope_theta, 1, max_theta));
  ASSIGN_OR_RETURN(const std::string type, RopeType(*local));
  if (type == "default") return absl::OkStatus();
  return local->Refuse(local->Has("rope_type") ? "rope_type" : "type",
                       "supported is default for layers with a window", kUnimplemented);
}

Status ReadRope(const JsonFields& fields, const HfClass& hf, ModelConfig* config) {
  const double max_theta = kConfigLimits.max_rope_theta;
  const ArchitectureTraits& traits = TraitsOf(hf.architecture);
  ASSIGN_OR_RETURN(config->rope_theta, fields.NumberOr("rope_theta", hf.rope_theta, 1, max_theta));
  ASSIGN_OR_RETURN(const std::optional<RopeFields> found, FindRope(fields, traits.local_rope));
  RETURN_IF_ERROR(ReadRotaryDim(fields, found ? &found->all : nullptr, config));
  if (traits.local_rope) {
    RETURN_IF_ERROR(ReadLocalRope(fields, found ? found->local : std::nullopt, config));
  }
  if (!found) return absl::OkStatus();
  const JsonFields& rope = found->all;
  ASSIGN_OR_RETURN(config->rope_theta, rope.NumberOr("rope_theta", config->rope_theta, 1, max_theta));
  ASSIGN_OR_RETURN(const std::string type, RopeType(rope));
  if (type == "default") return absl::OkStatus();
  RopeScaling& scaling = config->rope_scaling;
  if (hf.architecture == Architecture::kPhi3 && (type == "longrope" || type == "su" || type == "yarn")) {
    // Phi-3's files had two names for it before longrope. What stands outside goes before what stands inside.
    constexpr int kPhi3Context = 4096;
    constexpr std::string_view kOriginal = "original_max_position_embeddings";
    const JsonFields& place = fields.Has(kOriginal) || !rope.Has(kOriginal) ? fields : rope;
    ASSIGN_OR_RETURN(const int64_t original,
                     place.IntOr(kOriginal, kPhi3Context, 1, kConfigLimits.max_context_length));
    return ReadLongRope(rope, config->context_length, static_cast<int>(original), &scaling);
  }
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
  } else if (windows == Windows::kAllButSome) {
    ASSIGN_OR_RETURN(const int64_t period,
                     fields.IntOr("sliding_window_pattern", 6, 1, kConfigLimits.max_layers));
    for (int i = 0; i < n_layers; ++i) windowed[static_cast<size_t>(i)] = (i + 1) % period != 0;
  }
  return windowed;
}

Status ReadWindows(const JsonFields& fields, const HfClass& hf, ModelConfig* config) {
  ASSIGN_OR_RETURN(const std::vector<bool> windowed, WindowedLayers(fields, hf.windows, config->n_layers));
  const bool any = std::find(windowed.begin(), windowed.end(), true) != windowed.end();
  if (!any) return absl::OkStatus();
  if (!fields.Has("sliding_window")) {
    const bool is_null = fields.object().contains("sliding_window");
    const bool wanted = hf.windows == Windows::kAllButSome || fields.Has("layer_types");
    if (wanted && (is_null || hf.windows != Windows::kAllButSome)) {
      return fields.Refuse("sliding_window", "but some layers have sliding_attention");
    }
    if (is_null || hf.window == 0) return absl::OkStatus();  // null switches windows off
  }
  ASSIGN_OR_RETURN(const int64_t window,
                   fields.IntOr("sliding_window", hf.window, 1, kConfigLimits.max_context_length));
  config->layers.resize(windowed.size());
  for (size_t i = 0; i < windowed.size(); ++i) {
    if (!windowed[i]) continue;
    config->layers[i] = {static_cast<int>(window), TraitsOf(hf.architecture).local_rope};
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
  // The other classes have defaults of their own here that differ from one version to the next.
  if (hf.all_heads_have_kv && !fields.Has("num_key_value_heads")) {
    config->n_kv_heads = config->n_heads;
  } else {
    RETURN_IF_ERROR(size("num_key_value_heads", limits.max_heads, &config->n_kv_heads));
  }
  if (fields.Has("head_dim")) return size("head_dim", limits.max_head_dim, &config->head_dim);
  if (hf.head_dim > 0) {  // whatever the hidden size
    config->head_dim = hf.head_dim;
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
  RETURN_IF_ERROR(RefuseUnsupported(fields, hf));
  ModelConfig config;
  config.architecture = hf.architecture;
  RETURN_IF_ERROR(ReadSizes(fields, hf, &config));
  ASSIGN_OR_RETURN(const double eps, fields.NumberOr("rms_norm_eps", hf.rms_eps, 1e-12, 0.1));
  config.rms_eps = static_cast<float>(eps);
  RETURN_IF_ERROR(ReadRope(fields, hf, &config));
  RETURN_IF_ERROR(ReadWindows(fields, hf, &config));

  // Qwen2 has biases on Q, K and V by construction; some classes have a switch for all four, others none.
  ASSIGN_OR_RETURN(const bool attention_bias, fields.BoolOr("attention_bias", false));
  config.o_bias = hf.has_bias_switch && attention_bias;
  config.qkv_bias = hf.architecture == Architecture::kQwen2 || config.o_bias;
  config.qk_norm = TraitsOf(hf.architecture).qk_norm;
  if (hf.architecture == Architecture::kGemma3) {
    constexpr double kDefaultScalar = 256;
    ASSIGN_OR_RETURN(config.query_pre_attn_scalar,
                     fields.NumberOr("query_pre_attn_scalar", kDefaultScalar, 1e-3, 1e6));
  }
  ASSIGN_OR_RETURN(config.tied_embeddings, fields.BoolOr("tie_word_embeddings", hf.tied_embeddings));
  RETURN_IF_ERROR(CheckConsistent(config, name));
  return config;
}

}  // namespace coterie
