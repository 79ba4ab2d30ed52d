// The committed models and adapters that transformers, PEFT and the gguf package wrote
// (tests/golden/make_tiny_models.py).
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <map>
#include <set>

#include "model/format/dequantize.h"
#include "model/format/model_files.h"
#include "model/lora/lora_adapter.h"
#include "tests/model/format/tiny_model.h"

namespace coterie {
namespace {

using ::testing::ElementsAre;

const std::filesystem::path kData = std::filesystem::path(COTERIE_SOURCE_DIR) / "tests" / "data";

std::unique_ptr<ModelFiles> Open(std::string_view name) {
  auto files = ModelFiles::Open(kData / name);
  EXPECT_TRUE(files.ok()) << files.status();
  return files.ok() ? *std::move(files) : nullptr;
}

// Values of a weight in the order the engine sees its rows.
std::vector<float> Rows(const Weight& weight) {
  std::vector<float> values = DequantizeTensor(weight.tensor);
  for (float& value : values) value += weight.offset;
  if (weight.row_order.empty()) return values;
  std::vector<float> out;
  const size_t width = values.size() / weight.row_order.size();
  for (const int32_t row : weight.row_order) {
    const auto begin = values.begin() + static_cast<std::ptrdiff_t>(static_cast<size_t>(row) * width);
    out.insert(out.end(), begin, begin + static_cast<std::ptrdiff_t>(width));
  }
  return out;
}

class TinyFilesTest : public ::testing::TestWithParam<const char*> {};

TEST_P(TinyFilesTest, GgufAndFolderAreTheSameModel) {
  const std::string name = GetParam();
  const auto folder = Open(name);
  const auto gguf = Open(name + ".gguf");
  ASSERT_TRUE(folder && gguf);
  EXPECT_EQ(CanonicalText(folder->config()), CanonicalText(gguf->config()));
  EXPECT_THAT(folder->named_end_tokens(), ElementsAre(NamedToken{2, "config.json"}));
  EXPECT_THAT(gguf->named_end_tokens(), ElementsAre(NamedToken{2, "tokenizer.ggml.eos_token_id"}));
  int n_permuted = 0;
  testing::ForEachWeight(folder->config(), [&](WeightRole role, int layer, const std::vector<int64_t>&) {
    EXPECT_EQ(Rows(folder->Get(role, layer)), Rows(gguf->Get(role, layer)))
        << WeightRoleName(role) << " " << layer;
    n_permuted += gguf->Get(role, layer).row_order.empty() ? 0 : 1;
  });
  EXPECT_EQ(n_permuted, folder->config().architecture == Architecture::kLlama ? 6 : 0);
}

INSTANTIATE_TEST_SUITE_P(Architectures, TinyFilesTest,
                         ::testing::Values("tiny-llama", "tiny-qwen2", "tiny-qwen3", "tiny-phi3",
                                           "tiny-gemma3"),
                         [](const auto& info) {
                           std::string name = info.param;
                           return name.substr(name.find('-') + 1);
                         });

TEST(TinyFilesTest, ReadsQuantisedMatrices) {
  const auto files = Open("tiny-llama-q.gguf");
  ASSERT_TRUE(files);
  EXPECT_EQ(files->Get(WeightRole::kTokenEmbedding).tensor.dtype, DType::kQ8_0);
  EXPECT_EQ(files->Get(WeightRole::kDown, 2).tensor.dtype, DType::kQ4_1);
}

TEST(TinyFilesTest, LoadsEveryAdapterOnItsBaseAndRefusesItElsewhere) {
  std::map<std::string, std::unique_ptr<ModelFiles>> bases;
  for (const char* family : {"llama", "qwen2", "qwen3", "phi3", "gemma3"}) {
    bases[family] = Open(std::string("tiny-") + family);
    ASSERT_TRUE(bases[family]);
  }
  std::set<Digest> digests;
  for (const auto& entry : std::filesystem::directory_iterator(kData / "tiny-adapters")) {
    const std::string name = entry.path().filename().string();
    SCOPED_TRACE(name);
    const std::string family = name.substr(0, name.find('-'));
    const ModelFiles& own = *bases.at(family);
    const ModelFiles& other = *bases.at(family == "llama" ? "qwen2" : "llama");
    const auto adapter = LoraAdapter::Load(entry.path(), own.config());
    ASSERT_TRUE(adapter.ok()) << adapter.status();
    digests.insert((*adapter)->digest());
    EXPECT_EQ(LoraAdapter::Load(entry.path(), other.config()).status().code(),
              absl::StatusCode::kFailedPrecondition);
    if (name == "llama-top-layers") {
      EXPECT_EQ((*adapter)->first_layer(), 1);
    }
    if (name == "llama-patterns") {
      EXPECT_EQ((*adapter)->max_rank(), 6);
    }
  }
  EXPECT_EQ(digests.size(), 13u);
}

}  // namespace
}  // namespace coterie
