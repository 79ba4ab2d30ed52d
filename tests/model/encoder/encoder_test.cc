#include "model/encoder/encoder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <thread>

#include "absl/strings/str_replace.h"
#include "common/file.h"
#include "tests/model/format/expect_refused.h"
#include "tests/model/format/temp_folder.h"

namespace coterie {
namespace {

const std::filesystem::path kTinyBert = std::filesystem::path(COTERIE_SOURCE_DIR) / "tests/data/tiny-bert";

std::unique_ptr<Encoder> LoadTiny(const EncoderOptions& options = {.n_threads = 2}) {
  auto encoder = Encoder::Load(kTinyBert, options);
  EXPECT_TRUE(encoder.ok()) << encoder.status();
  return encoder.ok() ? *std::move(encoder) : nullptr;
}

std::vector<std::string> SomeTexts() {
  std::vector<std::string> texts = {"", "a", "the quick brown fox", "What is the capital of France?",
                                    "[SEP] [CLS]"};
  for (int n = 5; n < 60; n += 7) {
    std::string text;
    for (int i = 0; i < n; ++i) absl::StrAppend(&text, "word", i, " ");
    texts.push_back(text);
  }
  return texts;
}

TEST(EncoderTest, AnEmbeddingDoesNotDependOnItsNeighboursNorOnThreads) {
  const auto encoder = LoadTiny();
  const auto single = LoadTiny({.n_threads = 1, .max_batch_tokens = 48});
  ASSERT_TRUE(encoder && single);
  const std::vector<std::string> texts = SomeTexts();
  const auto together = encoder->Embed(texts);
  const auto in_small_passes = single->Embed(texts);
  ASSERT_TRUE(together.ok() && in_small_passes.ok());
  EXPECT_EQ(*together, *in_small_passes);
  for (size_t i = 0; i < texts.size(); ++i) {
    const auto alone = encoder->Embed({&texts[i], 1});
    ASSERT_TRUE(alone.ok());
    EXPECT_EQ((*alone)[0], (*together)[i]) << texts[i];
    double norm = 0;
    for (const float v : (*alone)[0]) norm += static_cast<double>(v) * static_cast<double>(v);
    EXPECT_NEAR(norm, 1, 1e-5);
  }
}

// However many passes run at once, and on however many cores each.
TEST(EncoderTest, CallsFromManyThreadsGiveTheSame) {
  const std::vector<std::string> texts = SomeTexts();
  const auto expected = LoadTiny({.n_threads = 1})->Embed(texts);
  ASSERT_TRUE(expected.ok());
  for (const int n_passes : {1, 2, 3, 8}) {
    const auto encoder = LoadTiny({.n_threads = 2, .n_passes = n_passes});
    ASSERT_TRUE(encoder);
    EXPECT_EQ(encoder->n_passes(), n_passes);
    std::vector<std::thread> threads;
    std::vector<int> n_equal(4);
    for (int t = 0; t < 4; ++t) {
      threads.emplace_back([&, t] {
        for (int round = 0; round < 5; ++round) {
          const auto got = encoder->Embed(texts);
          n_equal[static_cast<size_t>(t)] += got.ok() && *got == *expected ? 1 : 0;
        }
      });
    }
    for (std::thread& thread : threads) thread.join();
    EXPECT_THAT(n_equal, ::testing::Each(5));
  }
}

TEST(EncoderTest, CutsLongTextsAndTakesNoTexts) {
  const auto encoder = LoadTiny();
  ASSERT_TRUE(encoder);
  EXPECT_EQ(encoder->max_tokens(), 48);
  EXPECT_EQ(encoder->dim(), 32);
  std::string longer;
  for (int i = 0; i < 100; ++i) longer += "the ";
  const std::vector<std::string> texts = {longer, longer + "end"};
  const auto got = encoder->Embed(texts);
  ASSERT_TRUE(got.ok()) << got.status();
  EXPECT_EQ((*got)[0], (*got)[1]);
  EXPECT_TRUE(encoder->Embed({}).value().empty());
}

TEST(EncoderTest, RefusesTextsAndOptionsBeyondTheirLimits) {
  const auto encoder = LoadTiny({.n_threads = 1, .max_text_bytes = 10});
  ASSERT_TRUE(encoder);
  const std::vector<std::string> texts = {"short", "longer than that"};
  EXPECT_REFUSED(encoder->Embed(texts).status(), kInvalid, "text 1: ");
  EXPECT_REFUSED(Encoder::Load(kTinyBert, {.max_batch_tokens = 47}).status(), kInvalid,
                 "EncoderOptions.max_batch_tokens is 47: expected 48 (one text)");
  for (const int n_passes : {0, 65}) {
    EXPECT_REFUSED(Encoder::Load(kTinyBert, {.n_passes = n_passes}).status(), kInvalid,
                   "EncoderOptions.n_passes is ");
  }
}

// A copy of tiny-bert in which one file is changed.
class EncoderFolderTest : public ::testing::Test {
 protected:
  EncoderFolderTest() {
    std::filesystem::copy(kTinyBert, folder_.path() / "bert", std::filesystem::copy_options::recursive);
  }
  // Replaces `from` by `to` in `file` and loads; the file is put right again.
  Status LoadWith(const std::string& file, std::string_view from, std::string_view to) {
    const std::filesystem::path path = folder_.path() / "bert" / file;
    const std::string before = ReadFile(path, 1 << 20).value();
    const std::string after = absl::StrReplaceAll(before, {{ToAbsl(from), ToAbsl(to)}});
    EXPECT_NE(before, after) << "nothing to replace in " << file;
    EXPECT_TRUE(WriteFileAtomically(path, after).ok());
    const Status status = Encoder::Load(folder_.path() / "bert").status();
    EXPECT_TRUE(WriteFileAtomically(path, before).ok());
    return status;
  }
  testing::TempFolder folder_;
};

TEST_F(EncoderFolderTest, RefusesOtherModelsByField) {
  EXPECT_REFUSED(LoadWith("config.json", "\"model_type\": \"bert\"", "\"model_type\": \"mpnet\""),
                 kUnimplemented, "config.json: field \"model_type\" is \"mpnet\"");
  EXPECT_REFUSED(LoadWith("config.json", "\"gelu\"", "\"gelu_new\""), kUnimplemented,
                 "field \"hidden_act\" is \"gelu_new\"");
  EXPECT_REFUSED(LoadWith("config.json", "\"num_attention_heads\": 4", "\"num_attention_heads\": 5"),
                 kInvalid, "it does not divide hidden_size 32");
  EXPECT_REFUSED(LoadWith("config.json", "\"num_hidden_layers\": 2", "\"num_hidden_layers\": 0"), kInvalid,
                 "field \"num_hidden_layers\" is 0, expected an integer from 1 to 256");
  EXPECT_REFUSED(LoadWith("config.json", "\"num_hidden_layers\": 2", "\"num_hidden_layers\": 3"),
                 absl::StatusCode::kNotFound, "no tensor \"encoder.layer.2.attention.self.query.weight\"");
  EXPECT_REFUSED(LoadWith("config.json", "\"num_hidden_layers\": 2", "\"num_hidden_layers\": 1"),
                 kUnimplemented,
                 "tensor \"encoder.layer.1.attention.output.LayerNorm.bias\" is no weight of a BERT encoder");
  EXPECT_REFUSED(LoadWith("config.json", "\"intermediate_size\": 64", "\"intermediate_size\": 65"), kInvalid,
                 "intermediate.dense.weight\" has shape [64, 32], the configuration says [65, 32]");
}

TEST_F(EncoderFolderTest, RefusesOtherPoolingByField) {
  EXPECT_REFUSED(LoadWith("1_Pooling/config.json", "cls_token\": false", "cls_token\": true"), kUnimplemented,
                 "field \"pooling_mode_cls_token\" is true");
  EXPECT_REFUSED(LoadWith("1_Pooling/config.json", "mean_tokens\": true", "mean_tokens\": false"),
                 kUnimplemented, "field \"pooling_mode_mean_tokens\" is false");
  EXPECT_REFUSED(LoadWith("1_Pooling/config.json", "\"word_embedding_dimension\": 32",
                          "\"word_embedding_dimension\": 31"),
                 kInvalid, "field \"word_embedding_dimension\" is 31, the encoder has 32");
  EXPECT_REFUSED(LoadWith("modules.json", "models.Normalize", "models.Dense"), kUnimplemented,
                 "modules.json: field \"type\" is \"sentence_transformers.models.Dense\"");
  EXPECT_REFUSED(LoadWith("modules.json", "\"1_Pooling\"", "\"../1_Pooling\""), kInvalid,
                 "expected the name of a folder");
  EXPECT_REFUSED(LoadWith("sentence_bert_config.json", "\"max_seq_length\": 48", "\"max_seq_length\": 65"),
                 kInvalid, "field \"max_seq_length\" is 65, expected an integer from 3 to 64");
  EXPECT_REFUSED(LoadWith("sentence_bert_config.json", "\"do_lower_case\": false", "\"do_lower_case\": true"),
                 kUnimplemented, "field \"do_lower_case\" is true");
}

TEST_F(EncoderFolderTest, FastModeRefusesAWeightThatEightBitsCannotHold) {
  const std::filesystem::path path = folder_.path() / "bert" / "model.safetensors";
  std::string file = ReadFile(path, 1 << 22).value();
  uint64_t header_bytes;
  std::memcpy(&header_bytes, file.data(), sizeof header_bytes);
  const auto header = nlohmann::json::parse(file.substr(8, header_bytes));
  const char* name = "encoder.layer.1.output.dense.weight";
  const size_t third = 8 + header_bytes + header[name]["data_offsets"][0].get<size_t>() + 2 * sizeof(float);
  for (const float value : {std::nanf(""), HUGE_VALF, -1e7f}) {
    std::memcpy(file.data() + third, &value, sizeof value);
    ASSERT_TRUE(WriteFileAtomically(path, file).ok());
    EXPECT_REFUSED(Encoder::Load(folder_.path() / "bert", {.mode = NumericsMode::kFast}).status(), kInvalid,
                   std::isfinite(value)
                       ? absl::StrCat("tensor \"", name, "\", row 0: a weight is ", value, "; Q8_0 holds")
                       : absl::StrCat("tensor \"", name, "\" has the value ", value, " at 2"));
    const Status exact = Encoder::Load(folder_.path() / "bert").status();
    if (std::isfinite(value)) {
      EXPECT_TRUE(exact.ok()) << exact;
    } else {
      EXPECT_REFUSED(exact, kInvalid, "weights must be finite");
    }
  }
}

// Weights that are finite, but under which the numbers are not.
TEST_F(EncoderFolderTest, ATextWithoutAFiniteDirectionIsAnErrorOfItsOwn) {
  const std::filesystem::path path = folder_.path() / "bert" / "model.safetensors";
  std::string file = ReadFile(path, 1 << 22).value();
  uint64_t header_bytes;
  std::memcpy(&header_bytes, file.data(), sizeof header_bytes);
  const auto header = nlohmann::json::parse(file.substr(8, header_bytes));
  const auto& table = header["embeddings.word_embeddings.weight"];
  const size_t row_bytes = table["shape"][1].get<size_t>() * sizeof(float);
  const auto sound = LoadTiny();
  const std::vector<std::string> texts = {"a short text", "fox", "another"};
  const int32_t fox = sound->Tokenize("fox").value()[1];
  for (const float huge : {1e30f, 3e38f}) {
    std::string spoilt = file;
    for (size_t i = 0; i < 4; ++i) {
      const float value = i % 2 == 0 ? huge : -huge;
      std::memcpy(spoilt.data() + 8 + header_bytes + table["data_offsets"][0].get<size_t>() +
                      static_cast<size_t>(fox) * row_bytes + i * sizeof(float),
                  &value, sizeof value);
    }
    ASSERT_TRUE(WriteFileAtomically(path, spoilt).ok());
    for (const NumericsMode mode : {NumericsMode::kExact, NumericsMode::kFast}) {
      auto encoder = Encoder::Load(folder_.path() / "bert", {.mode = mode, .n_threads = 2});
      ASSERT_TRUE(encoder.ok()) << encoder.status();
      EXPECT_REFUSED((*encoder)->Embed(texts).status(), absl::StatusCode::kInternal,
                     "text 1: the embedder's numbers for this text are no finite direction");
      std::vector<std::vector<int32_t>> tokens;
      for (const std::string& text : texts) tokens.push_back(encoder.value()->Tokenize(text).value());
      const std::vector<Embedding> got = encoder.value()->EmbedTokens(tokens).value();
      EXPECT_TRUE(got[1].empty());
      if (mode == NumericsMode::kExact) {
        EXPECT_EQ(got[0], sound->Embed(texts).value()[0]) << "the others are untouched";
      }
      EXPECT_FALSE(got[2].empty());
    }
  }
}

TEST(EncoderTest, FastModePointsNearlyWhereExactModeDoes) {
  const auto exact = LoadTiny();
  const auto fast = LoadTiny({.mode = NumericsMode::kFast, .n_threads = 2});
  ASSERT_TRUE(exact && fast);
  EXPECT_EQ(exact->digest(), fast->digest());
  EXPECT_LT(fast->weight_bytes(), exact->weight_bytes() / 3);
  const std::vector<std::string> texts = {"a short text", "the other one is a little longer than the first"};
  const auto want = exact->Embed(texts).value();
  const auto got = fast->Embed(texts).value();
  for (size_t t = 0; t < texts.size(); ++t) {
    double cosine = 0;
    for (size_t i = 0; i < want[t].size(); ++i)
      cosine += static_cast<double>(want[t][i]) * static_cast<double>(got[t][i]);
    EXPECT_GT(cosine, 0.995);
    EXPECT_NE(want[t], got[t]);
  }
}

TEST_F(EncoderFolderTest, TheDigestSaysWhichEmbedderItIs) {
  const auto encoder = Encoder::Load(folder_.path() / "bert");
  ASSERT_TRUE(encoder.ok()) << encoder.status();
  EXPECT_EQ((*encoder)->digest(), LoadTiny()->digest());
  const std::filesystem::path path = folder_.path() / "bert" / "model.safetensors";
  std::string weights = ReadFile(path, 1 << 22).value();
  weights.back() ^= 1;
  ASSERT_TRUE(WriteFileAtomically(path, weights).ok());
  EXPECT_NE(Encoder::Load(folder_.path() / "bert").value()->digest(), (*encoder)->digest());
}

}  // namespace
}  // namespace coterie
