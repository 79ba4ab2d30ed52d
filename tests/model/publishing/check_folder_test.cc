#include "model/publishing/check_folder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "tests/model/publishing/plain_folder.h"

namespace coterie {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;
using testing::SafetensorsWriter;
using testing::TempFolder;
using testing::TinyAdapter;
using testing::TinyAdapterJson;
using testing::TinyConfig;
using testing::WritePlain;

std::string WordsOf(const FolderReport& report) {
  std::string words;
  for (const Status& problem : report.problems) absl::StrAppend(&words, problem.message(), "\n");
  return words;
}

TEST(CheckFolderTest, ASoundPlainFolderIsSummedUpAndToldWhatIsLeftToDo) {
  const TempFolder folder;
  WritePlain(folder);
  const ModelConfig base = TinyConfig();
  for (const ModelConfig* with : {static_cast<const ModelConfig*>(nullptr), &base}) {
    const FolderReport report = CheckFolder(folder.path(), with);
    EXPECT_THAT(report.problems, ElementsAre());
    EXPECT_EQ(report.summary, "LoRA of rank 2 on 4 modules (down_proj, q_proj), BF16 and F32, 0.0 MB");
    EXPECT_THAT(report.notes.back(), HasSubstr("coterie experts publish"));
  }
}

TEST(CheckFolderTest, EverythingThatIsWrongIsSaidAtOnce) {
  const TempFolder folder;
  folder.Write(
      "adapter_config.json",
      TinyAdapterJson("\"use_dora\": true, \"modules_to_save\": [\"lm_head\"], \"bias\": \"all\", "
                      "\"r\": 0, \"lora_alpha\": \"4\", \"warp\": 9, \"init_lora_weights\": \"pissa\", "
                      "\"layers_pattern\": \"h\", \"rank_pattern\": {\"q_proj\": 9999}"));
  SafetensorsWriter weights;
  const std::string module = "base_model.model.model.layers.0.";
  weights.AddF32(module + "self_attn.q_proj.lora_A.weight", {2, 8}, std::vector<float>(16, NAN));
  weights.AddF32(module + "self_attn.q_proj.lora_B.weight", {8, 2}, std::vector<float>(16, 1));
  weights.AddF32(module + "self_attn.q_proj.lora_magnitude_vector", {8}, std::vector<float>(8, 1));
  weights.AddF32(module + "mlp.up_proj.lora_A.weight", {2, 8}, std::vector<float>(16, 1));
  weights.AddF32(module + "mlp.down_proj.lora_A.weight", {2, 12}, std::vector<float>(24, 1));
  weights.AddF32(module + "mlp.down_proj.lora_B.weight", {8, 3}, std::vector<float>(24, 1));
  weights.AddF32("base_model.model.lm_head.weight", {16, 8}, std::vector<float>(128, 1));
  weights.Add(module + "self_attn.k_proj.lora_A.weight", "F64", {1, 1}, "12345678");
  folder.Write("adapter_model.safetensors", weights.Bytes());
  folder.Write("expert.yaml", "name: Bad Name\ncolour: red\nthresholds: {min_score: 7}\n");
  folder.Write("prototypes.safetensors", "x");
  const FolderReport report = CheckFolder(folder.path(), nullptr);
  const std::string words = WordsOf(report);
  for (const char* wanted : {"use_dora",
                             "modules_to_save",
                             "\"bias\"",
                             "\"r\" is 0",
                             "lora_alpha",
                             "warp",
                             "pissa",
                             "it needs layers_to_transform",
                             "999",
                             "holds infinity or NaN",
                             "DoRA is not supported",
                             "has no lora_B",
                             "ranks 2 and 3",
                             "lm_head.weight",
                             "\"F64\"",
                             "Bad Name",
                             "colour",
                             "min_score",
                             "field version is missing",
                             "field description is missing",
                             "prototypes.safetensors"}) {
    EXPECT_THAT(words, HasSubstr(wanted));
  }
  EXPECT_EQ(report.problems.size(), 21u) << words;
}

TEST(CheckFolderTest, AllThatIsMissingInAFolderIsSaidAtOnce) {
  const TempFolder folder;
  folder.Write("adapter_model.bin", "x");
  folder.Write("expert.yml", "name: a\n");
  const std::string words = WordsOf(CheckFolder(folder.path(), nullptr));
  EXPECT_THAT(words, HasSubstr("has no adapter_config.json"));
  EXPECT_THAT(words, HasSubstr("adapter_model.bin, which is a Python pickle"));
  EXPECT_THAT(words, HasSubstr("expert.yml; rename it"));
}

TEST(CheckFolderTest, WithABaseEveryLayerThatDoesNotFitIsNamed) {
  const TempFolder folder;
  WritePlain(folder);
  ModelConfig base = TinyConfig();
  base.ffn_size = 16;  // down_proj has other columns then, on both layers
  const std::string words = WordsOf(CheckFolder(folder.path(), &base));
  EXPECT_THAT(words, HasSubstr("layers.0.mlp.down_proj.lora_A.weight\" has shape [2, 12]"));
  EXPECT_THAT(words, HasSubstr("layers.1.mlp.down_proj.lora_A.weight\" has shape [2, 12]"));
  EXPECT_THAT(words, Not(HasSubstr("q_proj")));
}

TEST(CheckFolderTest, WeightsAreHeldAgainstTheirConfigurationWithoutABase) {
  const TempFolder folder;
  WritePlain(folder, "\"r\": 8");
  EXPECT_THAT(WordsOf(CheckFolder(folder.path(), nullptr)),
              HasSubstr("has rank 2, field \"r\" of the configuration is 8"));
  WritePlain(folder, "\"lora_alpha\": 0");
  EXPECT_THAT(WordsOf(CheckFolder(folder.path(), nullptr)), HasSubstr("would change nothing"));
  TinyAdapter zeros;
  zeros.zero_b = true;
  WritePlain(folder);
  folder.Write("adapter_model.safetensors", zeros.Weights().Bytes());
  EXPECT_THAT(WordsOf(CheckFolder(folder.path(), nullptr)), HasSubstr("would change nothing"));
}

}  // namespace
}  // namespace coterie
