// Gemma 3 270M against transformers in float32 (make_logits.py gemma).
#include <gtest/gtest.h>

#include <algorithm>

#include "common/file.h"
#include "kernels/create.h"
#include "model/decoder/decoder.h"
#include "model/text/gguf_tokenizer.h"
#include "nlohmann/json.hpp"
#include "tests/model/decoder/sequences.h"
#include "tests/real_models.h"
#include "tests/source_root.h"
#include "tests/testing/backends.h"

namespace coterie {
namespace {

using testing::Backend;

class RealGemmaTest : public ::testing::TestWithParam<Backend> {
 protected:
  void SetUp() override {
    if (!std::filesystem::exists(testing::RealGemma())) {
      GTEST_SKIP() << testing::RealGemma() << " is not there (tests/golden/README.md)";
    }
    const auto content = ReadFile(testing::SourceRoot() / "tests/golden/gemma3_greedy.json", 1 << 20);
    ASSERT_TRUE(content.ok()) << content.status();
    answers_ = nlohmann::json::parse(*content);
    ASSERT_GE(answers_.size(), 5u);
    auto files = ModelFiles::Open(testing::RealGemma());
    ASSERT_TRUE(files.ok()) << files.status();
    files_ = *std::move(files);
  }

  nlohmann::json answers_;
  std::unique_ptr<ModelFiles> files_;
};

// One prompt is longer than the window of 512 tokens.
TEST_P(RealGemmaTest, GreedyTokensEqualTransformers) {
  DecoderOptions options;
  options.n_kv_blocks = 80;
  options.max_batch_tokens = 1280;
  options.max_logit_rows = 64;
  const auto decoder = Decoder::Create(*files_, testing::MakeDecoderOps(GetParam()), options);
  ASSERT_TRUE(decoder.ok()) << decoder.status();
  const auto vocab = static_cast<size_t>((*decoder)->info().vocab_size);
  int n_steps = 0, n_other = 0;
  size_t longest = 0;
  for (const auto& answer : answers_) {
    const auto prompt = answer["prompt_ids"].get<std::vector<int32_t>>();
    const auto ids = answer["ids"].get<std::vector<int32_t>>();
    const auto margins = answer["margins"].get<std::vector<double>>();
    longest = std::max(longest, prompt.size());
    testing::TestSequence sequence;
    sequence.tokens = prompt;
    sequence.tokens.insert(sequence.tokens.end(), ids.begin(), ids.end());
    sequence.UseBlocks(0, static_cast<int>(sequence.tokens.size()));
    Batch batch;
    batch.Clear();
    AddToBatch(&sequence, static_cast<int>(sequence.tokens.size()), testing::LogitRows::kNone, &batch);
    for (size_t i = 0; i < ids.size(); ++i) {
      batch.logit_rows.push_back(static_cast<int32_t>(prompt.size() - 1 + i));
    }
    const StatusOr<std::span<const float>> logits = testing::RunForLogits(decoder->get(), &batch);
    ASSERT_TRUE(logits.ok()) << logits.status();
    for (size_t i = 0; i < ids.size(); ++i) {
      const std::span<const float> row = logits->subspan(i * vocab, vocab);
      const auto choice = static_cast<int32_t>(std::max_element(row.begin(), row.end()) - row.begin());
      ++n_steps;
      if (choice == ids[i]) continue;
      ++n_other;
      if (GetParam() == Backend::kExact) {
        EXPECT_LT(margins[i], 1e-3) << "token " << choice << " instead of " << ids[i] << " at step " << i;
      }
    }
  }
  EXPECT_GT(longest, 512u);
  std::cout << n_other << " of " << n_steps << " greedy tokens differ\n";
  EXPECT_LT(n_other, n_steps / 10);
}

INSTANTIATE_TEST_SUITE_P(BothModes, RealGemmaTest, ::testing::Values(Backend::kExact, Backend::kFast),
                         [](const auto& info) { return testing::NameOf(info.param); });

using RealGemmaTokensTest = RealGemmaTest;
TEST_P(RealGemmaTokensTest, PromptsBecomeTheTokensOfTransformers) {
  const auto tokenizer = LoadTokenizer(*files_->gguf());
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  for (const auto& answer : answers_) {
    const auto ids = (*tokenizer)->Encode(answer["prompt"].get<std::string>(), {.add_special = true});
    ASSERT_TRUE(ids.ok()) << ids.status();
    EXPECT_EQ(*ids, answer["prompt_ids"].get<std::vector<int32_t>>());
  }
}
INSTANTIATE_TEST_SUITE_P(Text, RealGemmaTokensTest, ::testing::Values(Backend::kExact),
                         [](const auto& info) { return testing::NameOf(info.param); });

}  // namespace
}  // namespace coterie
