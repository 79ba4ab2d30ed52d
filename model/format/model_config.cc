#include "model/format/model_config.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "absl/strings/str_join.h"

namespace coterie {
namespace {

// theta^(2i/d) in float32, as torch computes it, for d values that rotate.
std::vector<float> PositionFrequencies(double theta, int d) {
  std::vector<float> out(static_cast<size_t>(d / 2));
  for (size_t i = 0; i < out.size(); ++i) {
    out[i] = std::pow(static_cast<float>(theta), static_cast<float>(2 * i) / static_cast<float>(d));
  }
  return out;
}

std::vector<float> Inverses(std::vector<float> values) {
  for (float& value : values) value = 1.0f / value;
  return values;
}

// Frequencies that turn often within the trained context stay, slow ones are divided by `factor`, those
// between are interpolated.
float Llama3(float frequency, const RopeScaling& s) {
  const float context = static_cast<float>(s.original_context);
  const float low_wavelength = context / static_cast<float>(s.low_freq_factor);
  const float high_wavelength = context / static_cast<float>(s.high_freq_factor);
  const float wavelength = static_cast<float>(2 * std::numbers::pi) / frequency;
  const float factor = static_cast<float>(s.factor);
  if (wavelength > low_wavelength) return frequency / factor;
  if (wavelength < high_wavelength) return frequency;
  const float smooth = (context / wavelength - static_cast<float>(s.low_freq_factor)) /
                       static_cast<float>(s.high_freq_factor - s.low_freq_factor);
  return (1 - smooth) * frequency / factor + smooth * frequency;
}

// YaRN's blend of interpolated and extrapolated frequencies between two dimensions.
std::vector<float> Yarn(const ModelConfig& config, const std::vector<float>& position_frequencies) {
  const RopeScaling& s = config.rope_scaling;
  const double d = config.rotated();
  const auto correction_dim = [&](double rotations) {
    return d * std::log(s.original_context / (rotations * 2 * std::numbers::pi)) /
           (2 * std::log(config.rope_theta));
  };
  double low = correction_dim(s.beta_fast);
  double high = correction_dim(s.beta_slow);
  if (s.truncate) {
    low = std::floor(low);
    high = std::ceil(high);
  }
  low = std::max(low, 0.0);
  high = std::min(high, d - 1);
  if (low == high) high += 0.001;  // no division by zero
  std::vector<float> out(position_frequencies.size());
  for (size_t i = 0; i < out.size(); ++i) {
    const float ramp = (static_cast<float>(i) - static_cast<float>(low)) / static_cast<float>(high - low);
    const float extrapolated = 1.0f - std::min(std::max(ramp, 0.0f), 1.0f);
    const float whole = 1.0f / position_frequencies[i];
    const float stretched = 1.0f / (static_cast<float>(s.factor) * position_frequencies[i]);
    out[i] = stretched * (1.0f - extrapolated) + whole * extrapolated;
  }
  return out;
}

}  // namespace

float ModelConfig::embedding_scale() const {
  return TraitsOf(architecture).scaled_embedding ? std::sqrt(static_cast<float>(hidden_size)) : 1.0f;
}

float ModelConfig::attention_scale() const {
  const double divisor = query_pre_attn_scalar == 0 ? head_dim : query_pre_attn_scalar;
  return 1.0f / std::sqrt(static_cast<float>(divisor));
}

int YarnContext(const RopeScaling& scaling) {
  return static_cast<int>(std::min<double>(std::round(scaling.factor * scaling.original_context),
                                           kConfigLimits.max_context_length));
}

bool UsesShortRope(const ModelConfig& config, int context) {
  return config.rope_scaling.kind == RopeScaling::Kind::kLongRope &&
         context <= config.rope_scaling.original_context;
}

std::vector<float> LocalRopeInverseFrequencies(const ModelConfig& config) {
  return Inverses(PositionFrequencies(config.local_rope_theta, config.rotated()));
}

std::vector<float> RopeInverseFrequencies(const ModelConfig& config, int context) {
  std::vector<float> position_frequencies = PositionFrequencies(config.rope_theta, config.rotated());
  const RopeScaling& scaling = config.rope_scaling;
  if (scaling.kind == RopeScaling::Kind::kLongRope) {
    const auto& factors = UsesShortRope(config, context) ? scaling.short_factors : scaling.long_factors;
    for (size_t i = 0; i < factors.size(); ++i) position_frequencies[i] *= factors[i];
  }
  std::vector<float> out = scaling.kind == RopeScaling::Kind::kYarn ? Yarn(config, position_frequencies)
                                                                    : Inverses(position_frequencies);
  for (size_t i = 0; i < out.size(); ++i) {
    if (config.rope_scaling.kind == RopeScaling::Kind::kLinear) {
      out[i] /= static_cast<float>(config.rope_scaling.factor);
    } else if (config.rope_scaling.kind == RopeScaling::Kind::kLlama3) {
      out[i] = Llama3(out[i], config.rope_scaling);
    }
    // kDynamic leaves the frequencies alone up to the trained context, which is where context_length ends.
    if (!config.rope_divisors.empty()) out[i] /= config.rope_divisors[i];
  }
  return out;
}

std::string CanonicalText(const ModelConfig& c) {
  const RopeScaling& s = c.rope_scaling;
  std::string out;
  const auto line = [&out](absl::string_view key, const absl::AlphaNum& value) {
    absl::StrAppend(&out, key, "=", value, "\n");
  };
  const auto real = [&line](absl::string_view key, double value) {
    // Hexadecimal floats: exact, and the same text on every machine.
    char text[40];
    std::snprintf(text, sizeof text, "%a", value);
    line(key, absl::string_view(text));
  };
  line("architecture", ToAbsl(ArchitectureName(c.architecture)));
  line("n_layers", c.n_layers);
  line("hidden_size", c.hidden_size);
  line("n_heads", c.n_heads);
  line("n_kv_heads", c.n_kv_heads);
  line("head_dim", c.head_dim);
  line("ffn_size", c.ffn_size);
  line("vocab_size", c.vocab_size);
  line("context_length", c.context_length);
  real("rms_eps", static_cast<double>(c.rms_eps));
  real("rope_theta", c.rope_theta);
  line("rope_scaling", static_cast<int>(s.kind));
  real("factor", s.factor);
  line("original_context", s.original_context);
  real("low_freq_factor", s.low_freq_factor);
  real("high_freq_factor", s.high_freq_factor);
  real("beta_fast", s.beta_fast);
  real("beta_slow", s.beta_slow);
  line("truncate", s.truncate ? 1 : 0);
  real("attention_factor", s.attention_factor);
  for (const float divisor : c.rope_divisors) real("rope_divisor", static_cast<double>(divisor));
  line("qkv_bias", c.qkv_bias ? 1 : 0);
  line("o_bias", c.o_bias ? 1 : 0);
  line("qk_norm", c.qk_norm ? 1 : 0);
  line("tied_embeddings", c.tied_embeddings ? 1 : 0);
  // Only where there is one, so that bases without windows keep the digests they had before windows were
  // read.
  for (int layer = 0; layer < c.n_layers; ++layer) {
    if (const int window = c.KindOf(layer).window; window > 0) line(absl::StrCat("window.", layer), window);
  }
  // These likewise.
  if (c.rotated() != c.head_dim) line("rotary_dim", c.rotary_dim);
  if (c.query_pre_attn_scalar != 0) real("query_pre_attn_scalar", c.query_pre_attn_scalar);
  if (c.local_rope_theta != 0) real("local_rope_theta", c.local_rope_theta);
  for (const float factor : s.short_factors) real("short_factor", static_cast<double>(factor));
  for (const float factor : s.long_factors) real("long_factor", static_cast<double>(factor));
  return out;
}

}  // namespace coterie
