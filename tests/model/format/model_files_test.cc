#include "model/format/model_files.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>

#include "model/format/dequantize.h"
#include "model/format/weight_names.h"
#include "tests/model/format/expect_refused.h"
#include "tests/model/format/temp_folder.h"
#include "tests/model/format/tiny_model.h"
#include "tests/real_models.h"

namespace coterie {
namespace {

using testing::AddTinyWeights;
using ::testing::ElementsAre;
using testing::GgufWriter;
using testing::TempFolder;
using testing::TinyConfig;
using testing::TinyConfigJson;
using testing::TinyGgufMetadata;
using testing::TinySafetensors;
using testing::TinyValues;

class ModelFilesTest : public ::testing::Test {
 protected:
  StatusOr<std::unique_ptr<ModelFiles>> OpenGguf(GgufWriter writer, const ModelConfig& config = TinyConfig(),
                                                 std::string_view without = "") {
    const std::string bytes = AddTinyWeights(&writer, config, without).Bytes();
    return ModelFiles::Open(folder_.Write("tiny.gguf", bytes));
  }
  StatusOr<std::unique_ptr<ModelFiles>> OpenFolder(std::string_view more = "") {
    folder_.Write("config.json", TinyConfigJson(more));
    folder_.Write("model.safetensors", TinySafetensors(TinyConfig()));
    return ModelFiles::Open(folder_.path());
  }
  TempFolder folder_;
};

TEST_F(ModelFilesTest, FindsEveryWeightOfAFolder) {
  const auto files = OpenFolder();
  ASSERT_TRUE(files.ok()) << files.status();
  int n_weights = 0;
  testing::ForEachWeight(
      (*files)->config(), [&](WeightRole role, int layer, const std::vector<int64_t>& shape) {
        const Weight& weight = (*files)->Get(role, layer);
        EXPECT_EQ(weight.tensor.shape, shape);
        EXPECT_EQ(DequantizeTensor(weight.tensor), TinyValues(role, layer, testing::Elements(shape)));
        EXPECT_TRUE(weight.row_order.empty());
        ++n_weights;
      });
  EXPECT_EQ(n_weights, 2 + 2 * 9);
  EXPECT_EQ((*files)->gguf(), nullptr);
  EXPECT_EQ((*files)->folder(), folder_.path());
  EXPECT_EQ((*files)->OutputHead().tensor.name, "model.embed_tokens.weight");
}

TEST_F(ModelFilesTest, SaysHowLlamaGgufRowsArePermuted) {
  const auto files = OpenGguf(TinyGgufMetadata(TinyConfig()));
  ASSERT_TRUE(files.ok()) << files.status();
  // Two heads of four rows: the file has (0, 2, 1, 3) of each head, written by the converter as
  // reshape(heads, 2, 2).swapaxes(1, 2).
  EXPECT_THAT((*files)->Get(WeightRole::kQ, 1).row_order, ElementsAre(0, 2, 1, 3, 4, 6, 5, 7));
  EXPECT_THAT((*files)->Get(WeightRole::kK, 0).row_order, ElementsAre(0, 2, 1, 3));
  EXPECT_TRUE((*files)->Get(WeightRole::kV, 0).row_order.empty());
  EXPECT_NE((*files)->gguf(), nullptr);
  EXPECT_THAT(HalfSplitRowOrder(1, 8), ElementsAre(0, 2, 4, 6, 1, 3, 5, 7));
}

TEST_F(ModelFilesTest, QwenGgufRowsAreNotPermuted) {
  const ModelConfig config = TinyConfig(Architecture::kQwen2);
  const auto files = OpenGguf(TinyGgufMetadata(config), config);
  ASSERT_TRUE(files.ok()) << files.status();
  EXPECT_TRUE((*files)->Get(WeightRole::kQ).row_order.empty());
  EXPECT_EQ((*files)->Get(WeightRole::kQBias, 1).tensor.name, "blk.1.attn_q.bias");
}

// As llama-gguf-split --split-max-tensors leaves it: the metadata in the first file, tensors in all.
class SplitModelTest : public ModelFilesTest {
 protected:
  static constexpr int kParts = 3;
  static std::string NameOf(int part) {
    return absl::StrCat("tiny-0000", part + 1, "-of-0000", kParts, ".gguf");
  }
  void WritePart(int part, uint16_t stated_part, std::string_view twice = "") {
    GgufWriter writer = part == 0 ? TinyGgufMetadata(TinyConfig()) : GgufWriter();
    writer.AddScalar("split.no", GgufType::kU16, stated_part)
        .AddScalar("split.count", GgufType::kU16, uint16_t{kParts});
    int at = 0;
    testing::ForEachWeight(TinyConfig(), [&](WeightRole role, int layer, const std::vector<int64_t>& shape) {
      const std::string name = WeightName(role, layer, Architecture::kLlama, /*is_gguf=*/true);
      if (at++ % kParts != part && name != twice) return;
      writer.AddF32Tensor(name, shape, testing::TinyValues(role, layer, testing::Elements(shape)));
    });
    folder_.Write(NameOf(part), writer.Bytes());
  }
  Status Open(int part) { return ModelFiles::Open(folder_.path() / NameOf(part)).status(); }
};

TEST_F(SplitModelTest, IsTheSameModelAsInOneFile) {
  for (int part = 0; part < kParts; ++part) WritePart(part, static_cast<uint16_t>(part));
  const auto split = ModelFiles::Open(folder_.path() / NameOf(0));
  ASSERT_TRUE(split.ok()) << split.status();
  const auto one = OpenGguf(TinyGgufMetadata(TinyConfig()));
  ASSERT_TRUE(one.ok()) << one.status();
  EXPECT_EQ((*split)->ComputeDigest(), (*one)->ComputeDigest());
  EXPECT_TRUE((*split)->CheckWhole().ok());
}

TEST_F(SplitModelTest, RefusesPartsThatAreNotOfOneModelByName) {
  for (int part = 0; part < kParts; ++part) WritePart(part, static_cast<uint16_t>(part));
  EXPECT_REFUSED(Open(1), kInvalid,
                 "tiny-00002-of-00003.gguf: the model is split over 3 files; name the first");
  WritePart(2, 1);
  EXPECT_REFUSED(Open(0), kInvalid, "tiny-00003-of-00003.gguf: split.no is 1, its name makes it 2");
  WritePart(2, 2, "token_embd.weight");
  EXPECT_REFUSED(Open(0), kInvalid,
                 "tiny-00003-of-00003.gguf: tensor \"token_embd.weight\" is in an earlier part, too");
  std::filesystem::remove(folder_.path() / NameOf(1));
  EXPECT_REFUSED(Open(0), absl::StatusCode::kNotFound, "tiny-00002-of-00003.gguf");
}

TEST_F(ModelFilesTest, NamesMissingAndUnknownTensors) {
  EXPECT_REFUSED(OpenGguf(TinyGgufMetadata(TinyConfig()), TinyConfig(), "blk.1.ffn_up.weight").status(),
                 kInvalid, "tensor \"blk.1.ffn_up.weight\" is missing");
  GgufWriter extra = TinyGgufMetadata(TinyConfig());
  extra.AddF32Tensor("blk.0.ssm_in.weight", {1}, {1});
  EXPECT_REFUSED(OpenGguf(std::move(extra)).status(), kInvalid,
                 "tensor \"blk.0.ssm_in.weight\" is no weight of a llama model with 2 layers");
  GgufWriter third = TinyGgufMetadata(TinyConfig());
  third.AddF32Tensor("blk.2.attn_norm.weight", {8}, std::vector<float>(8));
  EXPECT_REFUSED(OpenGguf(std::move(third)).status(), kInvalid, "\"blk.2.attn_norm.weight\" is no weight");
  // A bias in one layer only: the first layer decides that the model has none.
  GgufWriter bias = TinyGgufMetadata(TinyConfig());
  bias.AddF32Tensor("blk.1.attn_q.bias", {8}, std::vector<float>(8));
  EXPECT_REFUSED(OpenGguf(std::move(bias)).status(), kInvalid, "\"blk.1.attn_q.bias\" is no weight");
}

TEST_F(ModelFilesTest, RefusesShapesAndTypesThatDoNotFitTheRole) {
  ModelConfig other = TinyConfig();
  other.ffn_size = 16;
  EXPECT_REFUSED(OpenGguf(TinyGgufMetadata(TinyConfig()), other).status(), kInvalid,
                 "tensor \"blk.0.ffn_gate.weight\" has shape [16, 8], the configuration says [12, 8]");
  ModelConfig wide = TinyConfig();
  wide.hidden_size = 32;
  wide.head_dim = 16;
  GgufWriter writer = TinyGgufMetadata(wide);
  writer.AddTensor("output_norm.weight", 8, {32}, std::string(34, '\0'));
  EXPECT_REFUSED(OpenGguf(std::move(writer), wide, "output_norm.weight").status(), kInvalid,
                 "tensor \"output_norm.weight\" is Q8_0, norms and biases must be F32, F16 or BF16");
}

TEST_F(ModelFilesTest, ReadsEndTokensFromGguf) {
  GgufWriter writer = TinyGgufMetadata(TinyConfig());
  writer.AddU32("tokenizer.ggml.bos_token_id", 1)
      .AddU32("tokenizer.ggml.eos_token_id", 9)
      .AddU32("tokenizer.ggml.eot_token_id", 3);
  const auto files = OpenGguf(std::move(writer));
  ASSERT_TRUE(files.ok()) << files.status();
  EXPECT_THAT((*files)->named_end_tokens(), ElementsAre(NamedToken{9, "tokenizer.ggml.eos_token_id"},
                                                        NamedToken{3, "tokenizer.ggml.eot_token_id"}));
  EXPECT_EQ((*files)->bos_token_id(), 1);
  GgufWriter none = TinyGgufMetadata(TinyConfig());
  none.AddU32("tokenizer.ggml.eos_token_id", 0xFFFFFFFF);  // -1, as some converters write it
  const auto without = OpenGguf(std::move(none));
  ASSERT_TRUE(without.ok()) << without.status();
  EXPECT_TRUE((*without)->named_end_tokens().empty());
  GgufWriter wrong = TinyGgufMetadata(TinyConfig());
  wrong.AddU32("tokenizer.ggml.eos_token_id", 16);
  EXPECT_REFUSED(OpenGguf(std::move(wrong)).status(), kInvalid,
                 "tokenizer.ggml.eos_token_id is 16, the vocabulary has 16 tokens");
}

TEST_F(ModelFilesTest, ReadsEndTokensFromBothConfigs) {
  const auto plain = OpenFolder("\"eos_token_id\": 2, \"bos_token_id\": 1");
  ASSERT_TRUE(plain.ok()) << plain.status();
  EXPECT_THAT((*plain)->named_end_tokens(), ElementsAre(NamedToken{2, "config.json"}));
  folder_.Write("generation_config.json", "{\"eos_token_id\": [5, 4, 5]}");
  const auto files = OpenFolder("\"eos_token_id\": 2, \"bos_token_id\": 1");
  ASSERT_TRUE(files.ok()) << files.status();
  EXPECT_THAT((*files)->named_end_tokens(),
              ElementsAre(NamedToken{5, "generation_config.json"}, NamedToken{4, "generation_config.json"},
                          NamedToken{5, "generation_config.json"}, NamedToken{2, "config.json"}));
  EXPECT_EQ((*files)->bos_token_id(), 1);
  folder_.Write("generation_config.json", "{\"eos_token_id\": 16}");
  EXPECT_REFUSED(OpenFolder().status(), kInvalid, "generation_config.json: field \"eos_token_id\" is 16");
}

TEST_F(ModelFilesTest, TheDigestCoversConfigurationAndBytes) {
  const auto digest = [](const StatusOr<std::unique_ptr<ModelFiles>>& files) {
    EXPECT_TRUE(files.ok()) << files.status();
    return (*files)->ComputeDigest();
  };
  const Digest first = digest(OpenFolder());
  EXPECT_EQ(digest(OpenFolder()), first);
  EXPECT_EQ(digest(OpenFolder("\"bos_token_id\": 1")), first);
  EXPECT_NE(digest(OpenFolder("\"rms_norm_eps\": 2e-5")), first);
  folder_.Write("config.json", TinyConfigJson());
  std::string weights = TinySafetensors(TinyConfig());
  weights.back() ^= 1;
  folder_.Write("model.safetensors", weights);
  EXPECT_NE(digest(ModelFiles::Open(folder_.path())), first);
}

TEST_F(ModelFilesTest, SaysWhichFileIsMissing) {
  EXPECT_REFUSED(ModelFiles::Open(folder_.path() / "none").status(), absl::StatusCode::kNotFound,
                 "none does not exist");
  EXPECT_REFUSED(ModelFiles::Open(folder_.path()).status(), absl::StatusCode::kNotFound, "config.json");
  folder_.Write("config.json", TinyConfigJson());
  EXPECT_REFUSED(ModelFiles::Open(folder_.path()).status(), absl::StatusCode::kNotFound, "model.safetensors");
}

TEST(WeightNamesTest, RoundTripAndRefuseOddLayerNumbers) {
  for (const ArchitectureTraits& traits : AllArchitectures()) {
    const ModelConfig config = TinyConfig(traits.architecture);
    for (const bool is_gguf : {true, false}) {
      for (int r = 0; r < kWeightRoleCount; ++r) {
        const auto role = static_cast<WeightRole>(r);
        if (!HasWeight(config, role)) continue;
        const int layer = IsPerLayer(role) ? 12 : 0;
        EXPECT_EQ(ParseWeightName(WeightName(role, layer, traits.architecture, is_gguf), config, is_gguf),
                  (WeightPlace{role, layer}));
      }
    }
  }
  for (const char* name :
       {"blk.01.attn_q.weight", "blk.+1.attn_q.weight", "blk.-1.attn_q.weight", "blk..attn_q.weight", "blk.1",
        "attn_q.weight", "blk.1.output.weight", "blk.99999999999.attn_q.weight", ""}) {
    EXPECT_EQ(ParseWeightName(name, TinyConfig(), true), std::nullopt) << name;
  }
}

TEST(RealModelTest, OpensSmolLm2) {
  const std::filesystem::path path = testing::RealBase();
  if (!std::filesystem::exists(path)) GTEST_SKIP() << path << " is absent";
  const auto files = ModelFiles::Open(path);
  ASSERT_TRUE(files.ok()) << files.status();
  const ModelConfig& c = (*files)->config();
  EXPECT_EQ(c.n_layers, 30);
  EXPECT_EQ(c.hidden_size, 576);
  EXPECT_EQ(c.n_heads, 9);
  EXPECT_EQ(c.n_kv_heads, 3);
  EXPECT_EQ(c.head_dim, 64);
  EXPECT_EQ(c.vocab_size, 49152);
  EXPECT_EQ(c.rope_theta, 100000);
  EXPECT_TRUE(c.tied_embeddings);
  EXPECT_EQ((*files)->OutputHead().tensor.dtype, DType::kQ8_0);
  EXPECT_EQ((*files)->Get(WeightRole::kDown, 29).tensor.dtype, DType::kQ4_1);
  EXPECT_THAT((*files)->named_end_tokens(), ElementsAre(NamedToken{2, "tokenizer.ggml.eos_token_id"}));
  EXPECT_FALSE((*files)->ComputeDigest().empty());
}

}  // namespace
}  // namespace coterie
