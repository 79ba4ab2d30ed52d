#ifndef COTERIE_MODEL_FORMAT_MODEL_CONFIG_H_
#define COTERIE_MODEL_FORMAT_MODEL_CONFIG_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "common/status.h"
#include "model/format/architectures.h"
#include "model/format/gguf.h"

namespace coterie {

// How rotary frequencies are stretched beyond the trained context (definitions: transformers'
// modeling_rope_utils.py; YaRN: arXiv 2309.00071; LongRoPE: arXiv 2402.13753).
struct RopeScaling {
  enum class Kind : uint8_t { kNone, kLinear, kDynamic, kLlama3, kYarn, kLongRope };
  Kind kind = Kind::kNone;
  double factor = 1;
  int original_context = 0;                          // tokens; llama3, yarn and longrope
  double low_freq_factor = 1, high_freq_factor = 4;  // llama3
  double beta_fast = 32, beta_slow = 1;              // yarn
  bool truncate = true;                              // yarn: round the correction range to whole dimensions
  double attention_factor = 1;                       // yarn and longrope: cos and sin are multiplied by it
  // longrope: [rotary values of a head / 2] divisors of the frequencies, where positions end within the
  // original context and where they go beyond it.
  std::vector<float> short_factors, long_factors;
};

// What one layer of a model does unlike another: the decoder's graph reads it from here.
struct LayerKind {
  int window = 0;           // tokens that a token attends to, itself the last of them; 0: all there are
  bool local_rope = false;  // turns by local_rope_theta
};

// The shape of a decoder-only model and the constants of its forward pass. Every number is bounded by
// kConfigLimits, so that products of sizes cannot overflow.
struct ModelConfig {
  Architecture architecture = Architecture::kLlama;
  int n_layers = 0;
  int hidden_size = 0;
  int n_heads = 0;
  int n_kv_heads = 0;  // divides n_heads
  int head_dim = 0;    // even
  int ffn_size = 0;
  int vocab_size = 0;
  // The most positions a sequence may have: the trained context, what YaRN stretches it to, or less where the
  // model is only exact up to there (dynamic RoPE scaling).
  int context_length = 0;
  float rms_eps = 0;
  // Scores are divided by the square root of this; 0: of head_dim.
  double query_pre_attn_scalar = 0;
  int rotary_dim = 0;  // the first values of a head, which rotate; even; 0: all of them
  double rope_theta = 0;
  double local_rope_theta = 0;  // of layers with LayerKind::local_rope, whose frequencies are not scaled
  RopeScaling rope_scaling;
  // [head_dim / 2] divisors of the rotary frequencies as some GGUF files bring them (rope_freqs.weight, the
  // llama3 scaling computed by the converter); empty otherwise.
  std::vector<float> rope_divisors;
  bool qkv_bias = false;
  bool o_bias = false;
  bool qk_norm = false;  // RMS norm of each head of Q and K
  bool tied_embeddings = false;
  std::vector<LayerKind> layers;  // [n_layers]; empty: all are as LayerKind begins

  LayerKind KindOf(int layer) const {
    return layers.empty() ? LayerKind() : layers[static_cast<size_t>(layer)];
  }
  int rotated() const { return rotary_dim == 0 ? head_dim : rotary_dim; }
  // Of rows of the embedding, and of scores.
  float embedding_scale() const;
  float attention_scale() const;
  int q_size() const { return n_heads * head_dim; }
  int kv_size() const { return n_kv_heads * head_dim; }
};

struct ConfigLimits {
  int max_layers = 1024;
  int max_hidden_size = 1 << 16;
  int max_heads = 1024;
  int max_head_dim = 1024;
  int max_ffn_size = 1 << 20;
  int max_vocab_size = 1 << 22;
  int max_context_length = 1 << 24;
  double max_rope_theta = 1e12;
  double max_rope_factor = 1e4;
};
inline constexpr ConfigLimits kConfigLimits;

// From the metadata (general.architecture: architectures.h) and the tensor names of a GGUF file.
// InvalidArgument names the key, its value and the range; Unimplemented names an architecture or a feature we
// do not run (experts, a cap on logits, …).
StatusOr<ModelConfig> ModelConfigFromGguf(const GgufFile& file);

// From a Hugging Face config.json (the classes of hf_config.cc); `name` stands in errors, which are as above.
StatusOr<ModelConfig> ModelConfigFromJson(std::string_view text, std::string_view name);

// Positions that YaRN stretches the trained ones to: factor times original_context, within the limits.
int YarnContext(const RopeScaling& scaling);

// Inverse frequencies [rotated() / 2] of the rotation: position p turns the pair (i, i + rotated() / 2) by
// p * frequency[i] radians. Rounded step by step in float32 as transformers does; cos and sin are to be
// multiplied by rope_scaling.attention_factor. `context` is the longest that a sequence may become: LongRoPE
// has other factors beyond its original context.
std::vector<float> RopeInverseFrequencies(const ModelConfig& config, int context);
// The same for layers with LayerKind::local_rope, whose cos and sin are as they are.
std::vector<float> LocalRopeInverseFrequencies(const ModelConfig& config);
// Whether `context` makes LongRoPE use its short factors.
bool UsesShortRope(const ModelConfig& config, int context);

// Every field that can change a logit, one per line: what the base digest covers.
std::string CanonicalText(const ModelConfig& config);

}  // namespace coterie

#endif  // COTERIE_MODEL_FORMAT_MODEL_CONFIG_H_
