#ifndef COTERIE_TESTS_MODEL_FORMAT_TINY_MODEL_H_
#define COTERIE_TESTS_MODEL_FORMAT_TINY_MODEL_H_

#include <string>
#include <string_view>
#include <vector>

#include "model/format/model_config.h"
#include "model/format/weight_names.h"
#include "tests/model/format/gguf_writer.h"
#include "tests/model/format/safetensors_writer.h"

namespace coterie::testing {

// 2 layers, hidden 8, 2 heads of 4 over 1 key/value head, ffn 12, vocabulary 16.
inline ModelConfig TinyConfig(Architecture architecture = Architecture::kLlama) {
  ModelConfig c;
  c.architecture = architecture;
  c.n_layers = 2;
  c.hidden_size = 8;
  c.n_heads = 2;
  c.n_kv_heads = 1;
  c.head_dim = 4;
  c.ffn_size = 12;
  c.vocab_size = 16;
  c.context_length = 64;
  c.rms_eps = 1e-5f;
  c.rope_theta = 10000;
  c.qkv_bias = architecture == Architecture::kQwen2;
  c.qk_norm = TraitsOf(architecture).qk_norm;
  if (architecture == Architecture::kGemma3) {
    c.local_rope_theta = 10000;
    c.query_pre_attn_scalar = c.head_dim;
  }
  c.tied_embeddings = true;
  return c;
}

// The metadata of such a model.
inline GgufWriter TinyGgufMetadata(const ModelConfig& c) {
  const std::string a(ArchitectureName(c.architecture));
  GgufWriter w;
  w.AddString("general.architecture", a)
      .AddU32(a + ".block_count", static_cast<uint32_t>(c.n_layers))
      .AddU32(a + ".context_length", static_cast<uint32_t>(c.context_length))
      .AddU32(a + ".embedding_length", static_cast<uint32_t>(c.hidden_size))
      .AddU32(a + ".feed_forward_length", static_cast<uint32_t>(c.ffn_size))
      .AddU32(a + ".attention.head_count", static_cast<uint32_t>(c.n_heads))
      .AddU32(a + ".attention.head_count_kv", static_cast<uint32_t>(c.n_kv_heads))
      .AddF32(a + ".attention.layer_norm_rms_epsilon", c.rms_eps);
  return w;
}

// Value i of a weight: different for every role, layer and element, so that a mix-up shows.
inline std::vector<float> TinyValues(WeightRole role, int layer, int64_t n) {
  std::vector<float> values(static_cast<size_t>(n));
  for (size_t i = 0; i < values.size(); ++i) {
    values[i] = static_cast<float>(static_cast<int>(role) * 1000 + layer * 500) + static_cast<float>(i);
  }
  return values;
}

// Calls f(role, layer, shape) for every weight of the model.
template <typename F>
void ForEachWeight(const ModelConfig& c, F f) {
  for (int r = 0; r < kWeightRoleCount; ++r) {
    const auto role = static_cast<WeightRole>(r);
    if (!HasWeight(c, role)) continue;
    for (int layer = 0; layer < (IsPerLayer(role) ? c.n_layers : 1); ++layer)
      f(role, layer, WeightShape(c, role));
  }
}

inline int64_t Elements(const std::vector<int64_t>& shape) {
  int64_t n = 1;
  for (const int64_t d : shape) n *= d;
  return n;
}

// Adds the weights, all F32, except the one called `without`.
inline GgufWriter& AddTinyWeights(GgufWriter* writer, const ModelConfig& c, std::string_view without = "") {
  ForEachWeight(c, [&](WeightRole role, int layer, const std::vector<int64_t>& shape) {
    const std::string name = WeightName(role, layer, c.architecture, /*is_gguf=*/true);
    if (name != without) writer->AddF32Tensor(name, shape, TinyValues(role, layer, Elements(shape)));
  });
  return *writer;
}

inline std::string TinySafetensors(const ModelConfig& c) {
  SafetensorsWriter writer;
  ForEachWeight(c, [&](WeightRole role, int layer, const std::vector<int64_t>& shape) {
    writer.AddF32(WeightName(role, layer, c.architecture, /*is_gguf=*/false), shape,
                  TinyValues(role, layer, Elements(shape)));
  });
  return writer.Bytes();
}

// A config.json for TinyConfig(kLlama); `more` adds or replaces fields: "\"vocab_size\": 0".
inline std::string TinyConfigJson(std::string_view more = "",
                                  std::string_view architecture = "LlamaForCausalLM") {
  std::string out = absl::StrCat("{\"architectures\": [\"", ToAbsl(architecture), "\"]");
  const std::pair<std::string_view, std::string_view> fields[] = {{"num_hidden_layers", "2"},
                                                                  {"hidden_size", "8"},
                                                                  {"num_attention_heads", "2"},
                                                                  {"num_key_value_heads", "1"},
                                                                  {"head_dim", "4"},
                                                                  {"intermediate_size", "12"},
                                                                  {"vocab_size", "16"},
                                                                  {"rms_norm_eps", "1e-5"},
                                                                  {"max_position_embeddings", "64"},
                                                                  {"rope_theta", "10000.0"},
                                                                  {"tie_word_embeddings", "true"}};
  for (const auto& [key, value] : fields) {
    if (more.find(absl::StrCat("\"", ToAbsl(key), "\"")) != std::string_view::npos) continue;
    absl::StrAppend(&out, ", \"", ToAbsl(key), "\": ", ToAbsl(value));
  }
  if (!more.empty()) absl::StrAppend(&out, ", ", ToAbsl(more));
  return out + "}";
}

}  // namespace coterie::testing

#endif  // COTERIE_TESTS_MODEL_FORMAT_TINY_MODEL_H_
