// GGUF metadata -> ModelConfig. Key names and defaults: docs/gguf.md of the ggml project and llama.cpp's
// loader.
#include <algorithm>
#include <cmath>

#include "absl/strings/match.h"
#include "common/quoted.h"
#include "model/format/config_check.h"
#include "model/format/dequantize.h"
#include "model/format/describe.h"
#include "model/format/model_config.h"

namespace coterie {
namespace {

using Kind = RopeScaling::Kind;

// The keys `<architecture>.attention.*` and `<architecture>.rope.*` that we honour. One we do not know may
// change the arithmetic, so it is refused rather than overlooked.
constexpr std::string_view kKnownKeys[] = {
    "attention.head_count",
    "attention.head_count_kv",
    "attention.key_length",
    "attention.value_length",
    "attention.layer_norm_rms_epsilon",
    "attention.layer_norm_epsilon",  // of other architectures; some converters write both
    "attention.sliding_window",
    "attention.sliding_window_pattern",
    "attention.causal",
    "rope.dimension_count",
    "rope.freq_base",
    "rope.freq_base_swa",
    "rope.scale_linear",
    "rope.scaling.type",
    "rope.scaling.factor",
    "rope.scaling.original_context_length",
    "rope.scaling.attn_factor",
    "rope.scaling.yarn_beta_fast",
    "rope.scaling.yarn_beta_slow",
    "rope.scaling.finetuned",  // says how the model came to be, changes nothing
};

// Reads `<architecture>.<key>` with bounds, and says what was wrong with it.
class GgufFields {
 public:
  GgufFields(const GgufFile& file, std::string_view architecture) : file_(file), prefix_(architecture) {
    prefix_ += '.';
  }

  std::string Key(std::string_view key) const { return prefix_ + std::string(key); }
  bool Has(std::string_view key) const { return file_.Has(Key(key)); }

  Status Int(std::string_view key, int64_t max, int* out) const {
    int64_t value = 0;
    ASSIGN_OR_RETURN(const bool is_array, file_.IsArray(Key(key)));
    if (is_array) {
      // Some converters write one number per layer; all equal is as good as one.
      ASSIGN_OR_RETURN(const std::vector<int64_t> values, file_.GetInts(Key(key)));
      const bool all_equal =
          std::adjacent_find(values.begin(), values.end(), std::not_equal_to<>()) == values.end();
      if (values.empty() || !all_equal) {
        return absl::UnimplementedError(absl::StrCat(file_.name(), ": ", Key(key),
                                                     " differs from layer to layer, which is not supported"));
      }
      value = values[0];
    } else {
      ASSIGN_OR_RETURN(value, file_.GetInt(Key(key)));
    }
    if (value < 1 || value > max) {
      return absl::InvalidArgumentError(
          absl::StrCat(file_.name(), ": ", Key(key), " is ", value, ", expected 1 to ", max));
    }
    *out = static_cast<int>(value);
    return absl::OkStatus();
  }
  Status IntOr(std::string_view key, int fallback, int64_t max, int* out) const {
    if (Has(key)) return Int(key, max, out);
    *out = fallback;
    return absl::OkStatus();
  }
  Status Number(std::string_view key, double min, double max, double* out) const {
    ASSIGN_OR_RETURN(*out, file_.GetFloat(Key(key)));
    if (*out >= min && *out <= max) return absl::OkStatus();
    return absl::InvalidArgumentError(
        absl::StrCat(file_.name(), ": ", Key(key), " is ", *out, ", expected ", min, " to ", max));
  }
  Status NumberOr(std::string_view key, double fallback, double min, double max, double* out) const {
    if (Has(key)) return Number(key, min, max, out);
    *out = fallback;
    return absl::OkStatus();
  }
  Status Unsupported(std::string_view key, std::string_view what) const {
    return absl::UnimplementedError(absl::StrCat(file_.name(), ": ", Key(key), " ", ToAbsl(what)));
  }

 private:
  const GgufFile& file_;
  std::string prefix_;
};

StatusOr<Architecture> FindArchitecture(const GgufFile& file) {
  ASSIGN_OR_RETURN(const std::string_view name, file.GetString("general.architecture"));
  for (const ArchitectureTraits& known : AllArchitectures()) {
    if (name == known.name) return known.architecture;
  }
  return absl::UnimplementedError(absl::StrCat(file.name(), ": general.architecture is ", Quoted(name),
                                               ", supported are ", ArchitectureNames()));
}

Status RefuseUnsupported(const GgufFile& file, const GgufFields& fields) {
  for (const std::string_view key : file.Keys()) {
    for (const std::string_view group : {"attention.", "rope."}) {
      const std::string prefix = fields.Key(group);
      if (!absl::StartsWith(ToAbsl(key), prefix)) continue;
      const std::string_view rest = key.substr(prefix.size() - group.size());
      if (std::find(std::begin(kKnownKeys), std::end(kKnownKeys), rest) == std::end(kKnownKeys)) {
        return absl::UnimplementedError(absl::StrCat(file.name(), ": metadata key ", Quoted(key),
                                                     " is not known and may change the arithmetic"));
      }
    }
  }
  if (fields.Has("expert_count")) {
    ASSIGN_OR_RETURN(const int64_t n_experts, file.GetInt(fields.Key("expert_count")));
    if (n_experts > 0) {
      return fields.Unsupported("expert_count",
                                absl::StrCat("is ", n_experts, ": mixture-of-experts layers"));
    }
  }
  for (const std::string_view key : {"logit_scale", "embedding_scale", "residual_scale"}) {
    if (!fields.Has(key)) continue;
    double scale;
    RETURN_IF_ERROR(fields.Number(key, -1e9, 1e9, &scale));
    if (scale != 1 && scale != 0)
      return fields.Unsupported(key, absl::StrCat("is ", scale, ", only 1 is supported"));
  }
  for (const std::string_view key : {"attn_logit_softcapping", "final_logit_softcapping"}) {
    if (!fields.Has(key)) continue;
    double cap;
    RETURN_IF_ERROR(fields.Number(key, 0, 1e9, &cap));
    if (cap != 0) return fields.Unsupported(key, absl::StrCat("is ", cap, ": a cap on logits"));
  }
  if (fields.Has("attention.causal")) {
    ASSIGN_OR_RETURN(const bool causal, file.GetBool(fields.Key("attention.causal")));
    if (!causal) return fields.Unsupported("attention.causal", "is false: only causal models are supported");
  }
  return absl::OkStatus();
}

Status ReadSizes(const GgufFile& file, const GgufFields& fields, ModelConfig* config) {
  const ConfigLimits& limits = kConfigLimits;
  RETURN_IF_ERROR(fields.Int("block_count", limits.max_layers, &config->n_layers));
  RETURN_IF_ERROR(fields.Int("embedding_length", limits.max_hidden_size, &config->hidden_size));
  RETURN_IF_ERROR(fields.Int("feed_forward_length", limits.max_ffn_size, &config->ffn_size));
  RETURN_IF_ERROR(fields.Int("context_length", limits.max_context_length, &config->context_length));
  RETURN_IF_ERROR(fields.Int("attention.head_count", limits.max_heads, &config->n_heads));
  RETURN_IF_ERROR(
      fields.IntOr("attention.head_count_kv", config->n_heads, limits.max_heads, &config->n_kv_heads));
  if (fields.Has("attention.key_length")) {
    RETURN_IF_ERROR(fields.Int("attention.key_length", limits.max_head_dim, &config->head_dim));
  } else {
    config->head_dim = config->hidden_size / config->n_heads;
    if (config->hidden_size % config->n_heads != 0 || config->head_dim > limits.max_head_dim) {
      return absl::InvalidArgumentError(
          absl::StrCat(file.name(), ": ", fields.Key("attention.head_count"), " is ", config->n_heads,
                       ", it does not divide the embedding length ", config->hidden_size,
                       " into heads of 1 to ", limits.max_head_dim));
    }
  }
  int value_dim;
  RETURN_IF_ERROR(fields.IntOr("attention.value_length", config->head_dim, limits.max_head_dim, &value_dim));
  if (value_dim != config->head_dim) {
    return fields.Unsupported(
        "attention.value_length",
        absl::StrCat("is ", value_dim, ", keys have ", config->head_dim, ": they must be equal"));
  }
  RETURN_IF_ERROR(
      fields.IntOr("rope.dimension_count", config->head_dim, limits.max_head_dim, &config->rotary_dim));
  if (config->rotary_dim != config->head_dim && !TraitsOf(config->architecture).partial_rotary) {
    return fields.Unsupported(
        "rope.dimension_count",
        absl::StrCat("is ", config->rotary_dim, ", the head has ", config->head_dim, ": they must be equal"));
  }
  // The embedding's rows are the vocabulary; the key is a second opinion.
  const TensorView* embedding = file.Find("token_embd.weight");
  if (embedding == nullptr || embedding->shape.size() != 2 || embedding->shape[0] > limits.max_vocab_size) {
    return absl::InvalidArgumentError(
        absl::StrCat(file.name(), ": tensor \"token_embd.weight\" ",
                     embedding == nullptr ? "is missing" : "has shape " + ShapeText(embedding->shape),
                     ", expected [vocabulary, ", config->hidden_size, "] with a vocabulary of 1 to ",
                     limits.max_vocab_size));
  }
  config->vocab_size = static_cast<int>(embedding->shape[0]);
  int stated_vocab;
  RETURN_IF_ERROR(fields.IntOr("vocab_size", config->vocab_size, limits.max_vocab_size, &stated_vocab));
  if (stated_vocab != config->vocab_size) {
    return absl::InvalidArgumentError(absl::StrCat(file.name(), ": ", fields.Key("vocab_size"), " is ",
                                                   stated_vocab, ", but tensor \"token_embd.weight\" has ",
                                                   config->vocab_size, " rows"));
  }
  return absl::OkStatus();
}

// The float32 tensor of a divisor for each pair that rotates, where the file has it.
Status ReadDivisors(const GgufFile& file, std::string_view name, const ModelConfig& config,
                    std::vector<float>* out) {
  const TensorView* divisors = file.Find(name);
  if (divisors == nullptr) return absl::OkStatus();
  const int n_pairs = config.rotated() / 2;
  if (divisors->dtype != DType::kF32 || divisors->n_elements() != n_pairs) {
    return absl::InvalidArgumentError(
        absl::StrCat(file.name(), ": tensor ", Quoted(name), " is ", ToAbsl(DTypeName(divisors->dtype)), " ",
                     ShapeText(divisors->shape), ", expected F32 [", n_pairs, "]"));
  }
  *out = DequantizeTensor(*divisors);
  for (const float d : *out) {
    if (d >= 1e-3f && d <= static_cast<float>(kConfigLimits.max_rope_factor)) continue;
    return absl::InvalidArgumentError(absl::StrCat(file.name(), ": tensor ", Quoted(name), " holds ", d,
                                                   ", expected 0.001 to ", kConfigLimits.max_rope_factor));
  }
  return absl::OkStatus();
}

Status ReadRope(const GgufFile& file, const GgufFields& fields, ModelConfig* config) {
  const double max_factor = kConfigLimits.max_rope_factor;
  RETURN_IF_ERROR(
      fields.NumberOr("rope.freq_base", 10000, 1, kConfigLimits.max_rope_theta, &config->rope_theta));
  RopeScaling& s = config->rope_scaling;
  std::string_view type = "linear";  // llama.cpp's default: a factor without a type is linear
  if (fields.Has("rope.scaling.type")) {
    ASSIGN_OR_RETURN(type, file.GetString(fields.Key("rope.scaling.type")));
  }
  const std::string_view factor_key =
      fields.Has("rope.scaling.factor") ? "rope.scaling.factor" : "rope.scale_linear";
  RETURN_IF_ERROR(fields.NumberOr(factor_key, 1, 0, max_factor, &s.factor));
  if (s.factor == 0) s.factor = 1;  // "not set"
  if (s.factor < 1)
    return fields.Unsupported(factor_key, absl::StrCat("is ", s.factor, ", expected at least 1"));
  if (type == "none") {
    s.factor = 1;
  } else if (type == "linear") {
    if (s.factor != 1) s.kind = Kind::kLinear;
  } else if (type == "yarn") {
    s.kind = Kind::kYarn;
    RETURN_IF_ERROR(fields.IntOr("rope.scaling.original_context_length", config->context_length,
                                 kConfigLimits.max_context_length, &s.original_context));
    RETURN_IF_ERROR(fields.NumberOr("rope.scaling.yarn_beta_fast", 32, 1e-6, 1e6, &s.beta_fast));
    RETURN_IF_ERROR(fields.NumberOr("rope.scaling.yarn_beta_slow", 1, 1e-6, 1e6, &s.beta_slow));
    double attention;
    RETURN_IF_ERROR(fields.NumberOr("rope.scaling.attn_factor", 1, 1e-3, 1e3, &attention));
    s.attention_factor = attention * (1 + 0.1 * std::log(s.factor));
    // A file that says what the original was may state that, or the stretched one, as its context.
    if (fields.Has("rope.scaling.original_context_length")) {
      config->context_length = std::max(config->context_length, YarnContext(s));
    }
  } else {
    return absl::UnimplementedError(absl::StrCat(file.name(), ": ", fields.Key("rope.scaling.type"), " is ",
                                                 Quoted(type), ", supported are none, linear and yarn"));
  }

  RETURN_IF_ERROR(ReadDivisors(file, "rope_freqs.weight", *config, &config->rope_divisors));
  RETURN_IF_ERROR(ReadDivisors(file, "rope_factors_short.weight", *config, &s.short_factors));
  RETURN_IF_ERROR(ReadDivisors(file, "rope_factors_long.weight", *config, &s.long_factors));
  if (!s.short_factors.empty() || !s.long_factors.empty()) {  // llama.cpp's converter states no type for it
    if (config->architecture != Architecture::kPhi3) {
      return absl::UnimplementedError(
          absl::StrCat(file.name(),
                       ": tensors \"rope_factors_short.weight\" and \"rope_factors_long.weight\": "
                       "LongRoPE is supported for phi3 alone"));
    }
    s.kind = Kind::kLongRope;
    RETURN_IF_ERROR(fields.Int("rope.scaling.original_context_length", kConfigLimits.max_context_length,
                               &s.original_context));
    RETURN_IF_ERROR(fields.NumberOr("rope.scaling.attn_factor", 1, 1e-3, 1e3, &s.attention_factor));
  }
  if (TraitsOf(config->architecture).local_rope) {
    RETURN_IF_ERROR(fields.NumberOr("rope.freq_base_swa", 10000, 1, kConfigLimits.max_rope_theta,
                                    &config->local_rope_theta));
  } else if (fields.Has("rope.freq_base_swa")) {
    return fields.Unsupported("rope.freq_base_swa", "is there: only gemma3 has one");
  }
  return absl::OkStatus();
}

// Gemma's windows are in all layers but every sixth, or every n-th where the file says so.
Status ReadWindows(const GgufFile& file, const GgufFields& fields, ModelConfig* config) {
  if (!fields.Has("attention.sliding_window")) return absl::OkStatus();
  // 0 is how converters write "none".
  ASSIGN_OR_RETURN(const int64_t window, file.GetInt(fields.Key("attention.sliding_window")));
  if (window < 0) return fields.Unsupported("attention.sliding_window", absl::StrCat("is ", window));
  if (window == 0) return absl::OkStatus();
  const bool local_rope = TraitsOf(config->architecture).local_rope;
  int period = 6;
  if (fields.Has("attention.sliding_window_pattern")) {
    if (!local_rope) {
      return fields.Unsupported("attention.sliding_window_pattern", "is there: only gemma3 has one");
    }
    RETURN_IF_ERROR(fields.Int("attention.sliding_window_pattern", kConfigLimits.max_layers, &period));
  }
  const int bounded = static_cast<int>(std::min<int64_t>(window, kConfigLimits.max_context_length));
  config->layers.assign(static_cast<size_t>(config->n_layers), {bounded, local_rope});
  for (int layer = 0; local_rope && layer < config->n_layers; ++layer) {
    if ((layer + 1) % period == 0) config->layers[static_cast<size_t>(layer)] = {};
  }
  return absl::OkStatus();
}

}  // namespace

StatusOr<ModelConfig> ModelConfigFromGguf(const GgufFile& file) {
  ModelConfig config;
  ASSIGN_OR_RETURN(config.architecture, FindArchitecture(file));
  const GgufFields fields(file, ArchitectureName(config.architecture));
  RETURN_IF_ERROR(RefuseUnsupported(file, fields));
  RETURN_IF_ERROR(ReadSizes(file, fields, &config));
  double eps;
  RETURN_IF_ERROR(fields.Number("attention.layer_norm_rms_epsilon", 1e-12, 0.1, &eps));
  config.rms_eps = static_cast<float>(eps);
  RETURN_IF_ERROR(ReadRope(file, fields, &config));
  RETURN_IF_ERROR(ReadWindows(file, fields, &config));
  // GGUF has no switches for these: the tensors are there or not. A layer that differs from the first is
  // found when the weights are looked up.
  config.qkv_bias = file.Find("blk.0.attn_q.bias") != nullptr;
  config.o_bias = file.Find("blk.0.attn_output.bias") != nullptr;
  config.qk_norm = TraitsOf(config.architecture).qk_norm;
  if (config.architecture == Architecture::kGemma3) {
    // No key says it: llama.cpp, too, knows the 27B by its layers, whose scores are of hidden_size / n_heads.
    constexpr int kLayersOf27B = 62;
    config.query_pre_attn_scalar =
        config.n_layers == kLayersOf27B ? config.hidden_size / config.n_heads : config.head_dim;
  }
  config.tied_embeddings = file.Find("output.weight") == nullptr;
  RETURN_IF_ERROR(CheckConsistent(config, file.name()));
  return config;
}

}  // namespace coterie
