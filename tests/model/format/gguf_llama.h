#ifndef COTERIE_TESTS_MODEL_FORMAT_GGUF_LLAMA_H_
#define COTERIE_TESTS_MODEL_FORMAT_GGUF_LLAMA_H_

#include "model/format/model_config.h"
#include "tests/model/format/gguf_writer.h"

namespace coterie::testing {

// The metadata that a base of the llama architecture needs for its layers; no tokenizer.
inline void AddLlamaConfig(const ModelConfig& config, int n_layers, GgufWriter* writer) {
  writer->AddString("general.architecture", "llama")
      .AddU32("llama.block_count", static_cast<uint32_t>(n_layers))
      .AddU32("llama.context_length", static_cast<uint32_t>(config.context_length))
      .AddU32("llama.embedding_length", static_cast<uint32_t>(config.hidden_size))
      .AddU32("llama.feed_forward_length", static_cast<uint32_t>(config.ffn_size))
      .AddU32("llama.attention.head_count", static_cast<uint32_t>(config.n_heads))
      .AddU32("llama.attention.head_count_kv", static_cast<uint32_t>(config.n_kv_heads))
      .AddU32("llama.attention.key_length", static_cast<uint32_t>(config.head_dim))
      .AddU32("llama.attention.value_length", static_cast<uint32_t>(config.head_dim))
      .AddF32("llama.attention.layer_norm_rms_epsilon", config.rms_eps)
      .AddF32("llama.rope.freq_base", static_cast<float>(config.rope_theta));
}

}  // namespace coterie::testing

#endif  // COTERIE_TESTS_MODEL_FORMAT_GGUF_LLAMA_H_
