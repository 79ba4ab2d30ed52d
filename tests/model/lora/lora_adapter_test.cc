#include "model/lora/lora_adapter.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include "kernels/formats/dequantize.h"
#include "model/format/safetensors.h"
#include "model/lora/lora_magnitude.h"
#include "tests/model/format/expect_refused.h"
#include "tests/model/format/temp_folder.h"
#include "tests/model/lora/tiny_adapter.h"

namespace coterie {
namespace {

using testing::AsBytes;
using testing::SafetensorsWriter;
using testing::TempFolder;
using testing::TinyAdapter;
using testing::TinyAdapterJson;
using testing::TinyConfig;

StatusOr<std::unique_ptr<const LoraAdapter>> Parse(std::string_view config, const std::string& weights,
                                                   const LoraLimits& limits = {}) {
  return LoraAdapter::Parse(config, AsBytes(weights), "expert", TinyConfig(), limits);
}

Digest DigestOf(std::string_view config, const std::string& weights) {
  const auto adapter = Parse(config, weights);
  EXPECT_TRUE(adapter.ok()) << adapter.status();
  return adapter.ok() ? (*adapter)->digest() : Digest();
}

TEST(LoraAdapterTest, LoadsFactorsScalesAndShapes) {
  const TempFolder folder;
  folder.Write("adapter_config.json", TinyAdapterJson());
  folder.Write("adapter_model.safetensors", TinyAdapter().Weights().Bytes());
  const auto adapter = LoraAdapter::Load(folder.path(), TinyConfig());
  ASSERT_TRUE(adapter.ok()) << adapter.status();
  const std::vector<LoraPair>& pairs = (*adapter)->pairs();
  ASSERT_EQ(pairs.size(), 4u);
  EXPECT_EQ(pairs[1].layer, 0);
  EXPECT_EQ(pairs[1].module, LoraModule::kDown);
  EXPECT_EQ(pairs[1].n_in, 12);
  EXPECT_EQ(pairs[1].n_out, 8);
  EXPECT_EQ(pairs[1].rank, 2);
  EXPECT_EQ(pairs[1].scale, 2.0f);
  EXPECT_EQ(pairs[1].a_dtype, DType::kF32);
  EXPECT_EQ(pairs[1].b_dtype, DType::kBF16);
  // Layer 0: Q takes values 1..16 (A) and 17..32 (B), then down's A begins at 33.
  std::vector<float> a(24);
  Dequantize(pairs[1].a_dtype, pairs[1].a, 24, a.data());
  EXPECT_EQ(a[0], 33.0f);
  EXPECT_EQ(a[23], 56.0f);
  float b;
  Dequantize(pairs[0].b_dtype, pairs[0].b, 1, &b);
  EXPECT_EQ(b, 17.0f);
  EXPECT_EQ((*adapter)->first_layer(), 0);
  EXPECT_EQ((*adapter)->max_rank(), 2);
  EXPECT_EQ((*adapter)->bytes(), 2u * (2 * 8 * 4 + 8 * 2 * 2 + 2 * 12 * 4 + 8 * 2 * 2));
  const std::vector<HostLora> host = (*adapter)->ToHost();
  ASSERT_EQ(host.size(), 4u);
  EXPECT_EQ(host[3].a.n_out, 2);
  EXPECT_EQ(host[3].a.n_in, 12);
  EXPECT_EQ(host[3].b.n_out, 8);
  EXPECT_EQ(host[3].b.data, pairs[3].b);
  EXPECT_EQ(host[3].layer, 1);
}

TEST(LoraAdapterTest, TheDigestIsOfWhatIsComputed) {
  const std::string weights = TinyAdapter().Weights().Bytes();
  const Digest digest = DigestOf(TinyAdapterJson(), weights);
  // The same modules and scales written another way are the same adapter.
  EXPECT_EQ(
      DigestOf(TinyAdapterJson("\"target_modules\": \".*(q|down)_proj\", \"lora_dropout\": 0.5"), weights),
      digest);
  EXPECT_NE(DigestOf(TinyAdapterJson("\"lora_alpha\": 5"), weights), digest);
  EXPECT_NE(DigestOf(TinyAdapterJson("\"alpha_pattern\": {\"0.mlp.down_proj\": 5}"), weights), digest);
  EXPECT_NE(DigestOf(TinyAdapterJson(), TinyAdapter{.first_value = 2}.Weights().Bytes()), digest);
}

TEST(LoraAdapterTest, RefusesAnAdapterThatWouldChangeNothing) {
  EXPECT_REFUSED(Parse(TinyAdapterJson(), TinyAdapter{.zero_b = true}.Weights().Bytes()).status(),
                 kPrecondition, "expert: the adapter would change nothing: in each of its 4 modules");
  EXPECT_REFUSED(Parse(TinyAdapterJson("\"lora_alpha\": 0"), TinyAdapter().Weights().Bytes()).status(),
                 kPrecondition, "the scale (field \"lora_alpha\") is 0");
}

TEST(LoraAdapterTest, RefusesMissingAndUnknownTensors) {
  EXPECT_REFUSED(Parse(TinyAdapterJson("\"target_modules\": [\"q_proj\", \"down_proj\", \"v_proj\"]"),
                       TinyAdapter().Weights().Bytes())
                     .status(),
                 kInvalid,
                 "tensor \"base_model.model.model.layers.0.self_attn.v_proj.lora_A.weight\" is missing, but "
                 "target_modules "
                 "select model.layers.0.self_attn.v_proj");
  EXPECT_REFUSED(
      Parse(TinyAdapterJson("\"target_modules\": [\"q_proj\"]"), TinyAdapter().Weights().Bytes()).status(),
      kPrecondition, "mlp.down_proj.lora_A.weight\" belongs to no linear layer of this base");
  const auto with = [](const char* name) {
    return Parse(TinyAdapterJson(), TinyAdapter().Weights().AddF32(name, {1}, {1}).Bytes()).status();
  };
  EXPECT_REFUSED(with("base_model.model.model.embed_tokens.lora_embedding_A"), kUnimplemented,
                 "adapters on embeddings are not supported");
  EXPECT_REFUSED(with("base_model.model.model.layers.0.self_attn.q_proj.lora_magnitude_vector"),
                 kUnimplemented, "DoRA is not supported");
  EXPECT_REFUSED(with("base_model.model.model.layers.2.self_attn.q_proj.lora_A.weight"), kPrecondition,
                 "layers.2.self_attn.q_proj.lora_A.weight\" belongs to no linear layer");
  EXPECT_REFUSED(with("base_model.model.lm_head.weight"), kUnimplemented, "lm_head.weight\" belongs to no");
  const std::string odd = TinyAdapter().Weights().Add("steps", "I64", {1}, std::string(8, '\0')).Bytes();
  EXPECT_REFUSED(Parse(TinyAdapterJson(), odd).status(), kPrecondition, "tensor \"steps\" belongs to no");
}

TEST(LoraAdapterTest, RefusesShapesOfAnotherBaseOrRank) {
  EXPECT_REFUSED(
      Parse(TinyAdapterJson("\"r\": 3"), TinyAdapter().Weights().Bytes()).status(), kPrecondition,
      "q_proj.lora_A.weight\" has shape [2, 8], the base's layer and the configured rank 3 make it [3, 8]");
  TinyAdapter wide;
  wide.base.ffn_size = 16;
  EXPECT_REFUSED(Parse(TinyAdapterJson(), wide.Weights().Bytes()).status(), kPrecondition,
                 "down_proj.lora_A.weight\" has shape [2, 16], the base's layer and the configured rank 2 "
                 "make it [2, 12]");
}

TEST(LoraAdapterTest, RefusesValuesThatAreNotFinite) {
  for (const float bad : {NAN, INFINITY, -INFINITY}) {
    EXPECT_REFUSED(Parse(TinyAdapterJson(), TinyAdapter{.first_value = bad}.Weights().Bytes()).status(),
                   kInvalid, "lora_A.weight\" holds infinity or NaN");
  }
  const std::string name = "base_model.model.model.layers.0.self_attn.q_proj";
  ModelConfig one_layer = TinyConfig();
  one_layer.n_layers = 1;
  for (const auto& [dtype, bits] :
       {std::pair("F16", uint16_t{0x7c00}), std::pair("BF16", uint16_t{0xff80})}) {
    const std::vector<uint16_t> b(16, bits);
    const std::string weights =
        testing::SafetensorsWriter()
            .AddF32(name + ".lora_A.weight", {2, 8}, std::vector<float>(16, 1.0f))
            .Add(name + ".lora_B.weight", dtype, {8, 2}, {reinterpret_cast<const char*>(b.data()), 32})
            .Bytes();
    EXPECT_REFUSED(LoraAdapter::Parse(TinyAdapterJson("\"target_modules\": [\"q_proj\"]"), AsBytes(weights),
                                      "expert", one_layer)
                       .status(),
                   kInvalid, "lora_B.weight\" holds infinity or NaN");
  }
}

TEST(LoraAdapterTest, RefusesFilesBeyondTheLimitAndPickles) {
  EXPECT_REFUSED(Parse(TinyAdapterJson(), TinyAdapter().Weights().Bytes(), {.max_bytes = 100}).status(),
                 absl::StatusCode::kInvalidArgument, "expert/adapter_model.safetensors has ");
  const TempFolder folder;
  EXPECT_REFUSED(LoraAdapter::Load(folder.path(), TinyConfig()).status(), absl::StatusCode::kNotFound,
                 "adapter_config.json");
  folder.Write("adapter_config.json", TinyAdapterJson());
  EXPECT_REFUSED(LoraAdapter::Load(folder.path(), TinyConfig()).status(), absl::StatusCode::kNotFound,
                 "adapter_model.safetensors");
  folder.Write("adapter_model.bin", "PK");
  EXPECT_REFUSED(LoraAdapter::Load(folder.path(), TinyConfig()).status(), kUnimplemented,
                 "adapter_model.bin is a Python pickle");
}

TEST(LoraAdapterTest, RefusesUpdatesUnderWhichAnswersCannotBeNumbers) {
  const auto with = [](float first_value, std::string_view more) {
    TinyAdapter adapter;
    adapter.first_value = first_value;
    return Parse(TinyAdapterJson(more), adapter.Weights().Bytes()).status();
  };
  EXPECT_TRUE(with(1, "").ok());
  EXPECT_TRUE(with(1e4f, "").ok()) << "large, but every activation is a number";
  for (const float large : {1e7f, 1e18f, 1e30f, 3e38f}) {
    EXPECT_REFUSED(with(large, ""), kPrecondition, "the limit is 1e+12");
    EXPECT_REFUSED(with(large, ""), kPrecondition, "the update of model.layers.0.self_attn.q_proj stretches");
  }
  EXPECT_REFUSED(with(1e4f, "\"lora_alpha\": 1000000"), kPrecondition, "publish an earlier checkpoint");
}

TEST(LoraMagnitudeTest, IsThatOfTheLargestTermWhateverTheTypes) {
  // Rank 2: rows of A of length 5 and 13, columns of B of length 3 and 4.
  const std::string bytes = SafetensorsWriter()
                                .AddF32("a", {2, 2}, {3, 4, -5, 12})
                                .AddBF16("b", {2, 2}, {3, 0, 0, -4})
                                .AddBF16("nothing", {2, 2}, {0, 0, 0, 0})
                                .Bytes();
  const auto file = SafetensorsFile::Parse(AsBytes(bytes), "x");
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_NEAR(LargestTerm(*file->Find("a"), *file->Find("b"), -2.0), 2 * 13 * 4, 1e-9);
  EXPECT_EQ(LargestTerm(*file->Find("a"), *file->Find("nothing"), 1.0), 0.0);
}

}  // namespace
}  // namespace coterie
