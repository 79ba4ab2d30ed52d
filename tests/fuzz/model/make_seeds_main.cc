// make_fuzz_seeds <tests/fuzz/corpus>: small well-formed inputs for the fuzzers of this folder.
#include <cstdio>
#include <filesystem>

#include "common/check.h"
#include "common/file.h"
#include "tests/model/format/tiny_model.h"
#include "tests/model/lora/packed_adapter.h"
#include "tests/model/lora/tiny_adapter.h"
#include "tests/model/text/text_testing.h"

namespace coterie {
namespace {

void Write(const std::filesystem::path& file, std::string_view content) {
  std::filesystem::create_directories(file.parent_path());
  const Status status = WriteFileAtomically(file, content);
  COTERIE_CHECK(status.ok()) << status;
}

// adapter_fuzz's input: the length of the configuration, the configuration, the weights.
std::string AdapterInput(std::string_view config, std::string_view weights) {
  const auto length = static_cast<uint16_t>(config.size());
  std::string out(reinterpret_cast<const char*>(&length), sizeof length);
  return out.append(config).append(weights);
}

// A GGUF file that holds nothing but a tokenizer.
std::string TokenizerFile(const TokenizerSpec& spec) {
  testing::GgufWriter writer;
  writer.AddString("tokenizer.ggml.model", spec.model)
      .AddString("tokenizer.ggml.pre", spec.pre)
      .AddStrings("tokenizer.ggml.tokens", spec.tokens)
      .AddArray<int32_t>("tokenizer.ggml.token_type", GgufType::kI32, spec.token_types)
      .AddU32("tokenizer.ggml.bos_token_id", static_cast<uint32_t>(spec.bos_id.value_or(1)))
      .AddU32("tokenizer.ggml.eos_token_id", static_cast<uint32_t>(spec.eos_id.value_or(2)));
  if (!spec.merges.empty()) writer.AddStrings("tokenizer.ggml.merges", spec.merges);
  if (!spec.scores.empty()) writer.AddArray<float>("tokenizer.ggml.scores", GgufType::kF32, spec.scores);
  return writer.Bytes();
}

void WriteAll(const std::filesystem::path& corpus) {
  using testing::GgufWriter;
  using testing::TinyAdapterJson;
  for (const ArchitectureTraits& traits : AllArchitectures()) {
    ModelConfig config = testing::TinyConfig(traits.architecture);
    config.n_layers = 1;
    GgufWriter writer = testing::TinyGgufMetadata(config);
    writer.AddString("tokenizer.ggml.model", "gpt2")
        .AddStrings("tokenizer.ggml.tokens", {"a", "b"})
        .AddArray<int32_t>("tokenizer.ggml.token_type", GgufType::kI32, {1, 1})
        .AddU32("tokenizer.ggml.eos_token_id", 1);
    Write(corpus / "gguf_fuzz" / std::string(traits.name), testing::AddTinyWeights(&writer, config).Bytes());
  }
  Write(corpus / "gguf_fuzz" / "tokenizer-bytes",
        TokenizerFile(SmallByteLevelSpec("smollm", {"a b", "l l", "\xC4\xA0 a", "ll o"})));
  Write(corpus / "gguf_fuzz" / "tokenizer-pieces",
        TokenizerFile(SmallSentencePieceSpec({"\xE2\x96\x81", "H", "e", "l", "ll", "\xE2\x96\x81W"})));
  GgufWriter types;
  for (const uint32_t type : {2u, 3u, 6u, 7u, 8u, 11u, 12u, 13u, 14u, 20u, 30u}) {
    types.AddTensor(absl::StrCat("t", type), type, {1, 256}, std::string(512, '\x3c'));
  }
  Write(corpus / "gguf_fuzz" / "types", types.AddU32("general.alignment", 32).Bytes());

  Write(corpus / "safetensors_fuzz" / "model",
        testing::SafetensorsWriter().AddF32("a", {2, 1}, {1, 2}).AddBF16("b", {1}, {3}).Bytes());
  Write(corpus / "safetensors_fuzz" / "metadata",
        testing::SafetensorsBytes(
            R"({"__metadata__":{"format":"pt"},"i":{"dtype":"I64","shape":[],"data_offsets":[0,8]}})",
            "12345678"));

  int n = 0;
  for (
      const char* more :
      {"",
       R"("rope_scaling": {"rope_type": "llama3", "factor": 8, "low_freq_factor": 1, "high_freq_factor": 4})",
       R"("rope_parameters": {"rope_type": "yarn", "factor": 4, "rope_theta": 1e4, "original_max_position_embeddings": 32})",
       R"("sliding_window": 32, "layer_types": ["full_attention", "sliding_attention"])",
       R"("sliding_window": 32, "use_sliding_window": true, "max_window_layers": 1)",
       R"("original_max_position_embeddings": 32, "partial_rotary_factor": 0.5, "rope_scaling": {"type": "longrope", "short_factor": [1], "long_factor": [2]})",
       R"("sliding_window_pattern": 2, "query_pre_attn_scalar": 3, "rope_local_base_freq": 1e4)",
       R"("rope_parameters": {"sliding_attention": {"rope_type": "default"}, "full_attention": {"rope_type": "linear", "factor": 8}})"}) {
    for (const char* architecture : {"LlamaForCausalLM", "MistralForCausalLM", "Qwen3ForCausalLM",
                                     "Phi3ForCausalLM", "Gemma3ForCausalLM"}) {
      Write(corpus / "model_config_fuzz" / absl::StrCat("config", n++),
            testing::TinyConfigJson(more, architecture));
    }
  }

  const std::string weights = testing::TinyAdapter().Weights().Bytes();
  n = 0;
  for (const char* more :
       {"", R"("target_modules": ".*\\.(q|down)_proj")",
        R"("target_modules": "all-linear", "exclude_modules": ["up_proj"])",
        R"("layers_to_transform": [0, 1], "layers_pattern": "layers")",
        R"("rank_pattern": {"[qk]_proj": 2}, "alpha_pattern": {"1.mlp.down_proj": 3}, "use_rslora": true)"}) {
    Write(corpus / "adapter_fuzz" / absl::StrCat("adapter", n++),
          AdapterInput(TinyAdapterJson(more), weights));
  }
  Write(corpus / "packed_file_fuzz" / "adapter", testing::TinyPacked().file);
}

}  // namespace
}  // namespace coterie

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: make_fuzz_seeds CORPUS_FOLDER\n");
    return 2;
  }
  coterie::WriteAll(argv[1]);
}
