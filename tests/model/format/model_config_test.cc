#include "model/format/model_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "common/file.h"
#include "common/json.h"
#include "tests/model/format/expect_refused.h"
#include "tests/model/format/tiny_model.h"

namespace coterie {
namespace {

using testing::AddTinyWeights;
using testing::AsBytes;
using ::testing::ElementsAre;
using testing::GgufWriter;
using testing::TinyConfig;
using testing::TinyConfigJson;
using testing::TinyGgufMetadata;

StatusOr<ModelConfig> FromJson(std::string_view more, std::string_view architecture = "LlamaForCausalLM") {
  return ModelConfigFromJson(TinyConfigJson(more, architecture), "config.json");
}

StatusOr<ModelConfig> FromGguf(GgufWriter writer, const ModelConfig& config = TinyConfig()) {
  const std::string bytes = AddTinyWeights(&writer, config).Bytes();
  const auto file = GgufFile::Parse(AsBytes(bytes), "tiny.gguf");
  if (!file.ok()) return file.status();
  return ModelConfigFromGguf(*file);
}

std::vector<int> WindowsOf(const StatusOr<ModelConfig>& config) {
  EXPECT_TRUE(config.ok()) << config.status();
  std::vector<int> windows;
  for (int layer = 0; config.ok() && layer < config->n_layers; ++layer) {
    windows.push_back(config->KindOf(layer).window);
  }
  return windows;
}

TEST(ModelConfigTest, ReadsAHuggingFaceConfig) {
  const auto c = FromJson("");
  ASSERT_TRUE(c.ok()) << c.status();
  EXPECT_EQ(CanonicalText(*c), CanonicalText(TinyConfig()));
}

TEST(ModelConfigTest, ReadsTheSameFromGguf) {
  for (const ArchitectureTraits& traits : AllArchitectures()) {
    const ModelConfig tiny = TinyConfig(traits.architecture);
    const auto c = FromGguf(TinyGgufMetadata(tiny), tiny);
    ASSERT_TRUE(c.ok()) << c.status();
    EXPECT_EQ(CanonicalText(*c), CanonicalText(tiny));
  }
}

TEST(ModelConfigTest, KnowsWhatEachClassImplies) {
  const auto qwen2 = FromJson("", "Qwen2ForCausalLM");
  ASSERT_TRUE(qwen2.ok()) << qwen2.status();
  EXPECT_TRUE(qwen2->qkv_bias);
  EXPECT_FALSE(qwen2->o_bias);
  const auto qwen3 = FromJson("\"head_dim\": null", "Qwen3ForCausalLM");
  ASSERT_TRUE(qwen3.ok()) << qwen3.status();
  EXPECT_TRUE(qwen3->qk_norm);
  EXPECT_FALSE(qwen3->qkv_bias);
  EXPECT_EQ(qwen3->head_dim, 128);
  const auto llama = FromJson("\"attention_bias\": true, \"num_key_value_heads\": null, \"head_dim\": null");
  ASSERT_TRUE(llama.ok()) << llama.status();
  EXPECT_TRUE(llama->qkv_bias);
  EXPECT_TRUE(llama->o_bias);
  EXPECT_EQ(llama->n_kv_heads, 2);
  EXPECT_EQ(llama->head_dim, 4);
  const auto mistral = FromJson("", "MistralForCausalLM");
  ASSERT_TRUE(mistral.ok()) << mistral.status();
  EXPECT_EQ(mistral->architecture, Architecture::kLlama);
}

constexpr std::string_view kLongRope =
    R"("original_max_position_embeddings": 32, "rope_scaling": {"type": "longrope", "short_factor": [1, 1.5],
       "long_factor": [2, 4]})";

TEST(ModelConfigTest, ReadsPhi3) {
  const auto phi3 = FromJson(kLongRope, "Phi3ForCausalLM");
  ASSERT_TRUE(phi3.ok()) << phi3.status();
  EXPECT_EQ(phi3->rope_scaling.kind, RopeScaling::Kind::kLongRope);
  EXPECT_EQ(phi3->rope_scaling.original_context, 32);
  EXPECT_NEAR(phi3->rope_scaling.attention_factor, std::sqrt(1 + std::log(2.0) / std::log(32.0)), 1e-7);
  EXPECT_THAT(RopeInverseFrequencies(*phi3, 32), ElementsAre(1, 1 / (1.5f * 100)));
  EXPECT_THAT(RopeInverseFrequencies(*phi3, 33), ElementsAre(0.5f, 1 / (4.0f * 100)));
  EXPECT_TRUE(UsesShortRope(*phi3, 32));
  EXPECT_FALSE(UsesShortRope(*phi3, 33));
  EXPECT_THAT(WindowsOf(phi3), ElementsAre(0, 0));
  EXPECT_THAT(WindowsOf(FromJson("\"sliding_window\": 9", "Phi3ForCausalLM")), ElementsAre(9, 9));
  EXPECT_EQ(FromJson("\"partial_rotary_factor\": 0.5", "Phi3ForCausalLM").value().rotated(), 2);
}

TEST(ModelConfigTest, ReadsGemma3) {
  const auto plain =
      FromJson("\"sliding_window_pattern\": 2, \"query_pre_attn_scalar\": 3", "Gemma3ForCausalLM");
  ASSERT_TRUE(plain.ok()) << plain.status();
  EXPECT_THAT(WindowsOf(plain), ElementsAre(4096, 0));
  EXPECT_TRUE(plain->KindOf(0).local_rope);
  EXPECT_FALSE(plain->KindOf(1).local_rope);
  EXPECT_EQ(plain->local_rope_theta, 10000);
  EXPECT_FLOAT_EQ(plain->attention_scale(), 1 / std::sqrt(3.0f));
  EXPECT_FLOAT_EQ(plain->embedding_scale(), std::sqrt(8.0f));
  EXPECT_TRUE(plain->qk_norm);
  EXPECT_TRUE(FromJson("\"tie_word_embeddings\": null", "Gemma3ForCausalLM").value().tied_embeddings);
  const auto nested = FromJson(R"("rope_parameters": {
      "sliding_attention": {"rope_type": "default", "rope_theta": 5000},
      "full_attention": {"rope_type": "linear", "factor": 8, "rope_theta": 2e6}})",
                               "Gemma3ForCausalLM");
  ASSERT_TRUE(nested.ok()) << nested.status();
  EXPECT_EQ(nested->local_rope_theta, 5000);
  EXPECT_EQ(nested->rope_theta, 2e6);
  EXPECT_EQ(nested->rope_scaling.factor, 8);
}

TEST(ModelConfigTest, RefusesWhatPhi3AndGemma3MayHaveAndWeDoNot) {
  const auto refused = [](std::string_view more, std::string_view hf_class) {
    return FromJson(more, hf_class).status();
  };
  EXPECT_REFUSED(refused("\"lm_head_bias\": true", "Phi3ForCausalLM"), kUnimplemented,
                 "\"lm_head_bias\" is true");
  EXPECT_REFUSED(refused("\"partial_rotary_factor\": 0.2", "Phi3ForCausalLM"), kInvalid,
                 "\"partial_rotary_factor\" is 0.2, it leaves less than a pair of 4 values");
  EXPECT_REFUSED(refused(R"("rope_scaling": {"type": "su", "short_factor": [1], "long_factor": [1, 1]})",
                         "Phi3ForCausalLM"),
                 kInvalid, "rope scaling longrope: 1 factors, expected 2");
  EXPECT_REFUSED(refused(R"("rope_scaling": {"type": "su", "short_factor": [1, 0], "long_factor": [1, 1]})",
                         "Phi3ForCausalLM"),
                 kInvalid, "field \"short_factor\"");
  EXPECT_REFUSED(refused("\"final_logit_softcapping\": 30.0", "Gemma3ForCausalLM"), kUnimplemented,
                 "\"final_logit_softcapping\" is 30.0, a cap on logits");
  EXPECT_REFUSED(refused("\"use_bidirectional_attention\": true", "Gemma3ForCausalLM"), kUnimplemented,
                 "\"use_bidirectional_attention\" is true");
  EXPECT_REFUSED(refused("\"hidden_activation\": \"gelu\"", "Gemma3ForCausalLM"), kUnimplemented,
                 "\"hidden_activation\" is \"gelu\"");
  EXPECT_REFUSED(refused("\"sliding_window\": null", "Gemma3ForCausalLM"), kInvalid,
                 "field \"sliding_window\" is null, but some layers have sliding_attention");
  EXPECT_REFUSED(refused(R"("rope_parameters": {"full_attention": {"rope_type": "default"},
                            "sliding_attention": {"rope_type": "linear", "factor": 2}})",
                         "Gemma3ForCausalLM"),
                 kUnimplemented, "supported is default for layers with a window");
}

TEST(ModelConfigTest, RefusesOtherModelsByName) {
  EXPECT_REFUSED(
      FromJson("", "GemmaForCausalLM").status(), kUnimplemented,
      "config.json: field \"architectures\" is [\"GemmaForCausalLM\"], supported are LlamaForCausalLM");
  EXPECT_REFUSED(ModelConfigFromJson("{}", "config.json").status(), kUnimplemented,
                 "field \"architectures\" is missing");
  EXPECT_REFUSED(FromJson("\"hidden_act\": \"gelu\"").status(), kUnimplemented,
                 "field \"hidden_act\" is \"gelu\"");
  EXPECT_REFUSED(FromJson("\"mlp_bias\": true").status(), kUnimplemented, "field \"mlp_bias\" is true");
  EXPECT_REFUSED(FromJson("\"quantization_config\": {\"quant_method\": \"gptq\"}").status(), kUnimplemented,
                 "field \"quantization_config\"");
  EXPECT_REFUSED(FromJson("\"partial_rotary_factor\": 0.5").status(), kUnimplemented,
                 "\"partial_rotary_factor\" is 0.5");
  EXPECT_REFUSED(FromJson("\"layer_types\": [\"chunked_attention\"]").status(), kUnimplemented,
                 "\"layer_types\"");
}

TEST(ModelConfigTest, BoundsEveryNumber) {
  const std::pair<const char*, const char*> cases[] = {{"num_hidden_layers", "0"},
                                                       {"num_hidden_layers", "1025"},
                                                       {"hidden_size", "65537"},
                                                       {"num_attention_heads", "-1"},
                                                       {"num_attention_heads", "1025"},
                                                       {"intermediate_size", "1048577"},
                                                       {"vocab_size", "4194305"},
                                                       {"vocab_size", "\"16\""},
                                                       {"max_position_embeddings", "16777217"},
                                                       {"num_key_value_heads", "0"},
                                                       {"head_dim", "1025"},
                                                       {"rms_norm_eps", "0"},
                                                       {"rms_norm_eps", "1"},
                                                       {"rope_theta", "0.5"},
                                                       {"rope_theta", "1e13"},
                                                       {"vocab_size", "16.5"},
                                                       {"num_hidden_layers", "18446744073709551615"}};
  for (const auto& [field, value] : cases) {
    EXPECT_REFUSED(FromJson(absl::StrCat("\"", field, "\": ", value)).status(), kInvalid,
                   absl::StrCat("config.json: field \"", field, "\" is "));
  }
  EXPECT_REFUSED(FromJson("\"num_key_value_heads\": 3").status(), kInvalid,
                 "2 attention heads cannot share 3 key/value heads evenly");
  EXPECT_REFUSED(FromJson("\"head_dim\": 3").status(), kInvalid,
                 "head dimension is 3, rotary embedding needs an even one");
  EXPECT_REFUSED(
      FromJson("\"head_dim\": null, \"num_attention_heads\": 3, \"num_key_value_heads\": 3").status(),
      kInvalid, "it does not divide hidden_size 8");
  EXPECT_REFUSED(FromJson("\"num_attention_heads\": 1024, \"head_dim\": 1024").status(), kInvalid,
                 "the limit is 65536");
}

TEST(ModelConfigTest, ReadsTheWindowOfEachLayer) {
  const auto mistral = [](std::string_view more) { return WindowsOf(FromJson(more, "MistralForCausalLM")); };
  EXPECT_THAT(mistral("\"sliding_window\": 32"), ElementsAre(32, 32));
  EXPECT_THAT(mistral("\"sliding_window\": null"), ElementsAre(0, 0));
  EXPECT_THAT(mistral(""), ElementsAre(4096, 4096));  // MistralConfig's default
  EXPECT_THAT(WindowsOf(FromJson("\"sliding_window\": 32")), ElementsAre(0, 0));
  const auto qwen = [](std::string_view more) { return WindowsOf(FromJson(more, "Qwen2ForCausalLM")); };
  EXPECT_THAT(qwen("\"sliding_window\": 32"), ElementsAre(0, 0));
  EXPECT_THAT(qwen("\"sliding_window\": 32, \"use_sliding_window\": true"), ElementsAre(0, 0));
  EXPECT_THAT(qwen("\"sliding_window\": 32, \"use_sliding_window\": true, \"max_window_layers\": 1"),
              ElementsAre(0, 32));
  EXPECT_THAT(qwen("\"sliding_window\": 32, \"layer_types\": [\"sliding_attention\", \"full_attention\"]"),
              ElementsAre(32, 0));
  auto writer = TinyGgufMetadata(TinyConfig());
  writer.AddU32("llama.attention.sliding_window", 16);
  EXPECT_THAT(WindowsOf(FromGguf(std::move(writer))), ElementsAre(16, 16));
}

TEST(ModelConfigTest, AWindowLeavesTheContextAndChangesTheModel) {
  const ModelConfig narrow = FromJson("\"sliding_window\": 32", "MistralForCausalLM").value();
  EXPECT_EQ(narrow.context_length, 64);
  EXPECT_NE(CanonicalText(narrow),
            CanonicalText(FromJson("\"sliding_window\": 31", "MistralForCausalLM").value()));
}

TEST(ModelConfigTest, RefusesWindowsThatDoNotFitTheLayers) {
  EXPECT_REFUSED(
      FromJson("\"layer_types\": [\"sliding_attention\", \"full_attention\"]", "Qwen3ForCausalLM").status(),
      kInvalid, "field \"sliding_window\" is missing, but some layers have sliding_attention");
  EXPECT_REFUSED(FromJson("\"layer_types\": [\"full_attention\"]", "Qwen3ForCausalLM").status(), kInvalid,
                 "it has 1 entries, expected one for each of num_hidden_layers 2");
  EXPECT_REFUSED(FromJson("\"sliding_window\": 0", "MistralForCausalLM").status(), kInvalid,
                 "field \"sliding_window\" is 0");
}

TEST(ModelConfigTest, RefusesRopeScalingItCannotCompute) {
  const auto with = [](std::string_view fields) {
    return FromJson(absl::StrCat("\"rope_scaling\": {", ToAbsl(fields), "}")).status();
  };
  EXPECT_REFUSED(
      with("\"rope_type\": \"longrope\", \"factor\": 2"), kUnimplemented,
      "config.json rope_scaling: field \"rope_type\" is \"longrope\", supported are default, linear");
  EXPECT_REFUSED(with("\"type\": \"su\", \"factor\": 2"), kUnimplemented, "field \"type\" is \"su\"");
  EXPECT_REFUSED(with("\"type\": \"linear\""), kInvalid, "field \"factor\" is missing");
  EXPECT_REFUSED(with("\"type\": \"linear\", \"factor\": 0.5"), kInvalid,
                 "field \"factor\" is 0.5, expected a number from 1");
  EXPECT_REFUSED(with("\"rope_type\": \"llama3\", \"factor\": 8"), kInvalid,
                 "field \"low_freq_factor\" is missing");
  EXPECT_REFUSED(
      with("\"rope_type\": \"llama3\", \"factor\": 8, \"low_freq_factor\": 4, \"high_freq_factor\": 4"),
      kInvalid, "high_freq_factor 4 must exceed low_freq_factor 4");
  EXPECT_REFUSED(with("\"rope_type\": \"yarn\", \"factor\": 8, \"beta_fast\": 1"), kInvalid,
                 "beta_fast 1 must exceed beta_slow 1");
  EXPECT_REFUSED(with("\"full_attention\": {\"rope_type\": \"default\"}"), kUnimplemented,
                 "RoPE parameters per layer type");
  EXPECT_REFUSED(FromJson("\"rope_scaling\": 3").status(), kInvalid,
                 "field \"rope_scaling\" is 3, expected an object");
  EXPECT_EQ(FromJson("\"rope_scaling\": {\"type\": \"linear\", \"factor\": 2}").value().rope_scaling.kind,
            RopeScaling::Kind::kLinear);
}

TEST(ModelConfigTest, YarnReachesAsFarAsItsFactorSays) {
  const auto context = [](std::string_view rope) {
    return FromJson(absl::StrCat("\"rope_scaling\": {\"rope_type\": \"yarn\", ", ToAbsl(rope), "}"))
        .value()
        .context_length;
  };
  const int trained = FromJson("").value().context_length;
  EXPECT_EQ(context("\"factor\": 4.0, \"original_max_position_embeddings\": 32"), 128);
  EXPECT_EQ(context("\"factor\": 2.5, \"original_max_position_embeddings\": 1000"), 2500);
  // Qwen's documents leave the second out where it equals max_position_embeddings.
  EXPECT_EQ(context("\"factor\": 4.0"), 4 * trained);
  // Without a factor it is what max_position_embeddings is of the original.
  EXPECT_EQ(context(absl::StrCat("\"original_max_position_embeddings\": ", trained / 4)), trained);
  EXPECT_EQ(context("\"factor\": 10000, \"original_max_position_embeddings\": 16000000"),
            kConfigLimits.max_context_length);
  // Others' frequencies say nothing about how far a model goes.
  EXPECT_EQ(FromJson("\"rope_scaling\": {\"type\": \"linear\", \"factor\": 2}").value().context_length,
            trained);
}

// The reference is transformers; tests/golden/make_rope.py wrote the file.
TEST(ModelConfigTest, RotaryFrequenciesEqualTransformers) {
  const auto golden = ReadJsonFile(std::string(COTERIE_SOURCE_DIR) + "/tests/golden/rope.json");
  ASSERT_TRUE(golden.ok()) << golden.status();
  int n_cases = 0;
  for (const Json& item : (*golden)["cases"]) {
    SCOPED_TRACE(item["name"].get<std::string>());
    const auto c = ModelConfigFromJson(item["config"].get<std::string>(), "config.json");
    ASSERT_TRUE(c.ok()) << c.status();
    EXPECT_NEAR(c->rope_scaling.attention_factor, item["attention_factor"].get<double>(), 1e-12);
    const std::vector<float> frequencies = RopeInverseFrequencies(*c, c->context_length);
    const auto expected = item["inverse_frequencies"].get<std::vector<float>>();
    ASSERT_EQ(frequencies.size(), expected.size());
    for (size_t i = 0; i < expected.size(); ++i) {
      EXPECT_NEAR(frequencies[i], expected[i], 3e-7f * expected[i]) << i;
    }
    ++n_cases;
  }
  EXPECT_EQ(n_cases, 11);
}

TEST(ModelConfigTest, ReadsGgufRopeScaling) {
  auto linear = TinyGgufMetadata(TinyConfig());
  linear.AddString("llama.rope.scaling.type", "linear").AddF32("llama.rope.scaling.factor", 2);
  const auto c = FromGguf(std::move(linear));
  ASSERT_TRUE(c.ok()) << c.status();
  EXPECT_EQ(c->rope_scaling.kind, RopeScaling::Kind::kLinear);
  EXPECT_FLOAT_EQ(RopeInverseFrequencies(*c, c->context_length)[0], 0.5f);

  auto yarn = TinyGgufMetadata(TinyConfig());
  yarn.AddString("llama.rope.scaling.type", "yarn")
      .AddF32("llama.rope.scaling.factor", 4)
      .AddU32("llama.rope.scaling.original_context_length", 16);
  const auto y = FromGguf(std::move(yarn));
  ASSERT_TRUE(y.ok()) << y.status();
  EXPECT_EQ(y->rope_scaling.kind, RopeScaling::Kind::kYarn);
  EXPECT_EQ(y->rope_scaling.original_context, 16);
  EXPECT_NEAR(y->rope_scaling.attention_factor, 1.138629436111989, 1e-9);
  EXPECT_EQ(y->context_length, std::max(TinyConfig().context_length, 64));

  auto divisors = TinyGgufMetadata(TinyConfig());
  divisors.AddF32Tensor("rope_freqs.weight", {2}, {1, 8});
  const auto d = FromGguf(std::move(divisors));
  ASSERT_TRUE(d.ok()) << d.status();
  EXPECT_THAT(d->rope_divisors, ElementsAre(1, 8));
  EXPECT_FLOAT_EQ(RopeInverseFrequencies(*d, d->context_length)[1], 0.01f / 8);
}

TEST(ModelConfigTest, RefusesGgufMetadataByKey) {
  const auto with = [](auto add) {
    GgufWriter writer = TinyGgufMetadata(TinyConfig());
    add(&writer);
    return FromGguf(std::move(writer)).status();
  };
  EXPECT_REFUSED(with([](GgufWriter* w) { w->AddString("llama.rope.scaling.type", "longrope"); }),
                 kUnimplemented,
                 "llama.rope.scaling.type is \"longrope\", supported are none, linear and yarn");
  EXPECT_REFUSED(with([](GgufWriter* w) {
                   w->AddU32("llama.attention.sliding_window", 2);
                   w->AddU32("llama.attention.sliding_window_pattern", 2);
                 }),
                 kUnimplemented, "llama.attention.sliding_window_pattern is there: only gemma3 has one");
  EXPECT_REFUSED(with([](GgufWriter* w) { w->AddF32("llama.rope.freq_base_swa", 2); }), kUnimplemented,
                 "llama.rope.freq_base_swa is there: only gemma3 has one");
  EXPECT_REFUSED(with([](GgufWriter* w) { w->AddF32("llama.final_logit_softcapping", 30); }), kUnimplemented,
                 "llama.final_logit_softcapping is 30: a cap on logits");
  EXPECT_REFUSED(with([](GgufWriter* w) { w->AddF32("llama.rope.scaling.factor", 0.5); }), kUnimplemented,
                 "llama.rope.scaling.factor is 0.5");
  EXPECT_REFUSED(with([](GgufWriter* w) { w->AddU32("llama.rope.dimension_count", 2); }), kUnimplemented,
                 "llama.rope.dimension_count is 2, the head has 4");
  EXPECT_REFUSED(with([](GgufWriter* w) { w->AddU32("llama.attention.value_length", 8); }), kUnimplemented,
                 "llama.attention.value_length is 8");
  EXPECT_REFUSED(with([](GgufWriter* w) { w->AddU32("llama.expert_count", 8); }), kUnimplemented,
                 "llama.expert_count is 8: mixture-of-experts");
  EXPECT_REFUSED(with([](GgufWriter* w) { w->AddF32("llama.logit_scale", 2); }), kUnimplemented,
                 "llama.logit_scale is 2");
  EXPECT_REFUSED(with([](GgufWriter* w) { w->AddBool("llama.attention.causal", false); }), kUnimplemented,
                 "llama.attention.causal is false");
  EXPECT_REFUSED(with([](GgufWriter* w) { w->AddF32("llama.attention.clamp_kqv", 8); }), kUnimplemented,
                 "metadata key \"llama.attention.clamp_kqv\" is not known");
  EXPECT_REFUSED(with([](GgufWriter* w) { w->AddU32("llama.vocab_size", 17); }), kInvalid,
                 "llama.vocab_size is 17, but tensor \"token_embd.weight\" has 16 rows");
  EXPECT_REFUSED(with([](GgufWriter* w) { w->AddF32("llama.rope.freq_base", 0); }), kInvalid,
                 "llama.rope.freq_base is 0, expected 1 to");
  EXPECT_REFUSED(with([](GgufWriter* w) {
                   w->AddF32Tensor("rope_freqs.weight", {3}, {1, 1, 1});
                 }),
                 kInvalid, "tensor \"rope_freqs.weight\" is F32 [3], expected F32 [2]");
  EXPECT_REFUSED(with([](GgufWriter* w) {
                   w->AddF32Tensor("rope_freqs.weight", {2}, {1, 0});
                 }),
                 kInvalid, "tensor \"rope_freqs.weight\" holds 0");
  EXPECT_REFUSED(with([](GgufWriter* w) {
                   w->AddF32Tensor("rope_factors_long.weight", {2}, {1, 1});
                 }),
                 kUnimplemented, "LongRoPE is supported for phi3 alone");
}

TEST(ModelConfigTest, NamesTheGgufArchitectureAndTheMissingKey) {
  EXPECT_REFUSED(
      FromGguf(GgufWriter().AddString("general.architecture", "mamba")).status(), kUnimplemented,
      "tiny.gguf: general.architecture is \"mamba\", supported are llama, qwen2, qwen3, phi3 and gemma3");
  EXPECT_REFUSED(FromGguf(GgufWriter().AddString("general.architecture", "llama")).status(),
                 absl::StatusCode::kNotFound, "no metadata key \"llama.block_count\"");
  auto wrong = GgufWriter().AddString("general.architecture", "llama").AddU32("llama.block_count", 0);
  EXPECT_REFUSED(FromGguf(std::move(wrong)).status(), kInvalid, "llama.block_count is 0, expected 1 to 1024");
}

TEST(ModelConfigTest, TakesPerLayerNumbersOnlyWhenAllAreEqual) {
  const auto with_heads = [](const std::vector<int32_t>& heads) {
    GgufWriter w;
    w.AddString("general.architecture", "llama")
        .AddU32("llama.block_count", 2)
        .AddU32("llama.context_length", 64)
        .AddU32("llama.embedding_length", 8)
        .AddU32("llama.feed_forward_length", 12)
        .AddArray<int32_t>("llama.attention.head_count", GgufType::kI32, heads)
        .AddU32("llama.attention.head_count_kv", 1)
        .AddF32("llama.attention.layer_norm_rms_epsilon", 1e-5f);
    return FromGguf(std::move(w));
  };
  EXPECT_EQ(with_heads({2, 2}).value().n_heads, 2);
  EXPECT_REFUSED(with_heads({2, 4}).status(), kUnimplemented,
                 "llama.attention.head_count differs from layer to layer");
}

}  // namespace
}  // namespace coterie
