#include "model/text/continuation.h"

#include <map>
#include <random>

#include "common/file.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "model/format/gguf.h"
#include "model/text/gguf_tokenizer.h"
#include "model/text/incremental_detokenizer.h"
#include "nlohmann/json.hpp"
#include "tests/model/text/text_testing.h"
#include "tests/real_models.h"
#include "tests/source_root.h"

// The seam between prompt and answer: against Hugging Face `tokenizers` (tests/golden/make_seams.py), and by
// random texts for every kind of tokenizer.
namespace coterie {
namespace {

using Json = nlohmann::json;
using TokenizerPtr = std::shared_ptr<const Tokenizer>;
using ::testing::ElementsAre;

const std::string kSeamMeta = "\xE2\x96\x81";

StatusOr<std::vector<int32_t>> Continue(const TokenizerPtr& tokenizer, std::string_view prompt,
                                        std::span<const int32_t> ids, std::string_view text) {
  const TextPiece piece{prompt, false};
  return EncodeContinuation(tokenizer, {std::span(&piece, 1), /*add_special=*/true, ids}, text, 4096);
}

// What the tokens' own bytes are together.
std::string JoinedBytes(const TokenizerPtr& tokenizer, std::span<const int32_t> prompt,
                        std::span<const int32_t> ids) {
  IncrementalDetokenizer detokenizer(tokenizer, {.after = prompt});
  std::string bytes;
  for (const int32_t id : ids) {
    bytes += detokenizer.BytesOf(id);
    (void)detokenizer.Append(id);
  }
  return bytes;
}

TEST(SeamGoldenTest, AnswersAndScoresAreAsTheReferenceReadsThem) {
  const Json kinds =
      Json::parse(ReadFile(testing::SourceRoot() / "tests/golden/seams.json", 16 << 20).value());
  ASSERT_GE(kinds.size(), 9u);
  for (const Json& kind : kinds) {
    SCOPED_TRACE(kind.at("name").get<std::string>());
    const std::filesystem::path file =
        testing::SourceRoot() / "tests/data" / kind.at("folder").get<std::string>() / "tokenizer.json";
    Json spec = Json::parse(ReadFile(file, 16 << 20).value());
    spec.merge_patch(kind.at("patch"));
    const StatusOr<TokenizerPtr> tokenizer = Tokenizer::FromJson(spec.dump(), "");
    ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
    ASSERT_GE(kind.at("answers").size(), 50u);
    for (const Json& row : kind.at("answers")) {
      const auto prompt_ids = row.at(1).get<std::vector<int32_t>>();
      const auto ids = row.at(2).get<std::vector<int32_t>>();
      const auto text = row.at(3).get<std::string>();
      EXPECT_EQ((*tokenizer)->Encode(row.at(0).get<std::string>(), {.add_special = true}).value(),
                prompt_ids);
      EXPECT_EQ(DecodeContinuation(*tokenizer, prompt_ids, ids), text) << row;
      EXPECT_EQ(JoinedBytes(*tokenizer, prompt_ids, ids), text) << row;
    }
    ASSERT_GE(kind.at("scores").size(), 50u);
    for (const Json& row : kind.at("scores")) {
      const auto prompt_ids = row.at(1).get<std::vector<int32_t>>();
      EXPECT_EQ(Continue(*tokenizer, row.at(0).get<std::string>(), prompt_ids, row.at(2).get<std::string>())
                    .value(),
                row.at(3).get<std::vector<int32_t>>())
          << row;
    }
  }
}

// A tokenizer of each kind that gives every text back. (NFC and BERT's normaliser change texts.)
std::map<std::string, TokenizerPtr> LosslessTokenizers() {
  const std::vector<std::string> merges = {"a b",         "\xC4\xA0 a", "ab c",
                                           "\xC4\xA0 ab", "1 2",        "\xC3\xA3 \xC4\xA3"};
  std::map<std::string, TokenizerPtr> made;
  for (const char* pre : {"gpt-2", "smollm", "llama-bpe", "tekken"})
    made[pre] = Tokenizer::Create(SmallByteLevelSpec(pre, merges)).value();
  TokenizerSpec spec = SmallSentencePieceSpec({kSeamMeta, "a", "b", "c", kSeamMeta + "a", "ab",
                                               kSeamMeta + kSeamMeta, kSeamMeta + "ab", "abc", "1", "."});
  made["sentencepiece"] = Tokenizer::Create(spec).value();
  spec.add_space_prefix = false;
  made["sentencepiece without the space"] = Tokenizer::Create(spec).value();
  for (const char* folder : {"llama2-like", "metaspace", "llama3-like"})
    made[folder] = Tokenizer::FromFolder(testing::SourceRoot() / "tests/data/tokenizers" / folder).value();
  const std::filesystem::path real = testing::RealBase();
  if (std::filesystem::exists(real)) made["SmolLM2"] = LoadTokenizer(GgufFile::Open(real).value()).value();
  return made;
}

std::string RandomText(std::mt19937* random) {
  static const std::vector<std::string> kParts = {
      " ",    " ",   "  ",    "a",    "ab",         "abc",  "b",        "1", "12",       "345",
      ".",    "!",   "\n",    "\n\n", "\t",         "'s",   "é",        "ë", "你",       "好",
      "🙂", "Say", "world", " the", "<|im_end|>", "</s>", "\xCC\x81", "X", "camelCase"};
  std::string text;
  for (size_t n = 1 + (*random)() % 6; n > 0; --n) text += kParts[(*random)() % kParts.size()];
  return text;
}

TEST(SeamPropertyTest, ATextThatGoesOnIsDecodedToItself) {
  for (const auto& [name, tokenizer] : LosslessTokenizers()) {
    SCOPED_TRACE(name);
    std::mt19937 random(5);
    for (int round = 0; round < 600; ++round) {
      const std::string prompt = round % 7 == 0 ? "" : RandomText(&random);
      const std::string text = RandomText(&random);
      // Metaspace reads " a" at the very beginning as "a".
      if (name == "metaspace" && prompt.empty() && text.front() == ' ') continue;
      const std::vector<int32_t> prompt_ids = tokenizer->Encode(prompt, {.add_special = true}).value();
      const std::vector<int32_t> ids = Continue(tokenizer, prompt, prompt_ids, text).value();
      ASSERT_EQ(DecodeContinuation(tokenizer, prompt_ids, ids), text) << "[" << prompt << "]";
      ASSERT_EQ(JoinedBytes(tokenizer, prompt_ids, ids), text) << "[" << prompt << "]";
      for (const int32_t id : ids) ASSERT_FALSE(tokenizer->IsSpecial(id)) << text;
      // What was generated is scored: the ids of its text are its ids.
      const std::string generated = DecodeContinuation(tokenizer, prompt_ids, ids);
      ASSERT_EQ(Continue(tokenizer, prompt, prompt_ids, generated).value(), ids) << text;
    }
  }
}

TEST(SeamPropertyTest, BytesOfRandomTokensAreTheBytesOfTheText) {
  for (const auto& [name, tokenizer] : LosslessTokenizers()) {
    SCOPED_TRACE(name);
    std::mt19937 random(6);
    size_t n_compared = 0;
    for (int round = 0; round < 2000; ++round) {
      const std::vector<int32_t> prompt_ids =
          tokenizer->Encode(round % 5 == 0 ? "" : RandomText(&random), {.add_special = true}).value();
      std::vector<int32_t> ids(1 + random() % 5);
      for (int32_t& id : ids) id = static_cast<int32_t>(random() % tokenizer->vocab_size());
      const std::string text = DecodeContinuation(tokenizer, prompt_ids, ids);
      if (text.find("\xEF\xBF\xBD") != std::string::npos) continue;
      ++n_compared;
      ASSERT_EQ(JoinedBytes(tokenizer, prompt_ids, ids), text);
    }
    EXPECT_GT(n_compared, 100u);
  }
}

TEST(SeamTest, ASentencePieceAnswerKeepsItsFirstSpace) {
  const TokenizerPtr tokenizer =
      Tokenizer::Create(SmallSentencePieceSpec({kSeamMeta, kSeamMeta + "Say", kSeamMeta + "world", "world"}))
          .value();
  // The small vocabulary has no merges towards its words: it is asked for by id.
  const int32_t say = tokenizer->IdOf(kSeamMeta + "Say").value();
  const int32_t world = tokenizer->IdOf(kSeamMeta + "world").value();
  const std::vector<int32_t> prompt = {1, say};
  const std::vector<int32_t> answer = {world, world};
  EXPECT_EQ(DecodeContinuation(tokenizer, prompt, answer), " world world");
  EXPECT_EQ(JoinedBytes(tokenizer, prompt, answer), " world world");
  // Behind nothing but <s> the reference takes the first one off.
  EXPECT_EQ(DecodeContinuation(tokenizer, std::vector<int32_t>{1}, answer), "world world");
  EXPECT_EQ(JoinedBytes(tokenizer, std::vector<int32_t>{1}, answer), "world world");
}

TEST(SeamTest, NoSpaceIsPutBeforeATextThatGoesOn) {
  const TokenizerPtr tokenizer =
      Tokenizer::FromFolder(testing::SourceRoot() / "tests/data/tokenizers/llama2-like").value();
  const std::string prompt = "In the beginning";
  const std::vector<int32_t> prompt_ids = tokenizer->Encode(prompt, {.add_special = true}).value();
  for (const std::string text : {" the", "the", "  the", "s", " ", "\n", "é"}) {
    const std::vector<int32_t> ids = Continue(tokenizer, prompt, prompt_ids, text).value();
    EXPECT_EQ(tokenizer->Decode(prompt_ids) + text, tokenizer->Decode([&] {
      std::vector<int32_t> all = prompt_ids;
      all.insert(all.end(), ids.begin(), ids.end());
      return all;
    }()))
        << text;
  }
  EXPECT_NE(Continue(tokenizer, prompt, prompt_ids, " the").value(),
            Continue(tokenizer, prompt, prompt_ids, "the").value());
}

TEST(SeamTest, NoSpaceIsPutBehindAControlToken) {
  const TokenizerPtr tokenizer =
      Tokenizer::FromFolder(testing::SourceRoot() / "tests/data/tokenizers/llama2-like").value();
  const std::vector<TextPiece> pieces = {{"a", false}, {"</s>", true}};
  const std::vector<int32_t> prompt_ids = tokenizer->EncodePieces(pieces, {}).value();
  ASSERT_TRUE(tokenizer->IsSpecial(prompt_ids.back()));
  for (const std::string text : {" the", "the"}) {
    const std::vector<int32_t> ids =
        EncodeContinuation(tokenizer, {pieces, /*add_special=*/false, prompt_ids}, text, 64).value();
    EXPECT_EQ(DecodeContinuation(tokenizer, prompt_ids, ids), text);
  }
  // Bytes that are no UTF-8 are read as U+FFFD, and change nothing else.
  const std::vector<int32_t> ids =
      EncodeContinuation(tokenizer, {pieces, /*add_special=*/false, prompt_ids}, "the\xC3", 64).value();
  EXPECT_EQ(DecodeContinuation(tokenizer, prompt_ids, ids), "the\xEF\xBF\xBD");
}

TEST(SeamTest, ALongPromptIsReadAtItsEndsOnly) {
  const TokenizerPtr tokenizer =
      Tokenizer::FromFolder(testing::SourceRoot() / "tests/data/tokenizers/llama2-like").value();
  std::mt19937 random(8);
  for (int round = 0; round < 20; ++round) {
    std::vector<int32_t> prompt(300), answer(4);
    for (int32_t& id : prompt) id = static_cast<int32_t>(random() % tokenizer->vocab_size());
    prompt.back() = 3 + 0xC3;  // "<0xC3>": the answer may complete the character
    for (int32_t& id : answer) id = static_cast<int32_t>(random() % tokenizer->vocab_size());
    if (round % 2 == 0) answer.front() = 3 + 0xA9;
    IncrementalDetokenizer whole(tokenizer);
    for (const int32_t id : prompt) (void)whole.Append(id);
    std::string want;
    for (const int32_t id : answer) want += whole.Append(id);
    EXPECT_EQ(DecodeContinuation(tokenizer, prompt, answer), want + whole.Flush());
  }
}

TEST(SeamTest, TooManyTokensAreRefused) {
  const TokenizerPtr tokenizer = Tokenizer::Create(SmallByteLevelSpec("gpt-2", {})).value();
  const TextPiece piece{"ab", false};
  const std::vector<int32_t> ids = tokenizer->Encode("ab", {}).value();
  const EncodedPrompt prompt{std::span(&piece, 1), false, ids};
  EXPECT_EQ(EncodeContinuation(tokenizer, prompt, "abc", 3).value().size(), 3u);
  EXPECT_EQ(EncodeContinuation(tokenizer, prompt, "abcd", 3).status().code(),
            absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace coterie
