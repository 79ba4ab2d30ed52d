#include "model/text/tokenizer.h"

#include <random>
#include <thread>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "model/format/gguf.h"
#include "model/text/gguf_tokenizer.h"
#include "nlohmann/json.hpp"
#include "tests/model/text/text_testing.h"
#include "tests/real_models.h"

namespace coterie {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using TokenizerPtr = std::shared_ptr<const Tokenizer>;

constexpr int32_t kByte = 3;  // the first byte token of the small vocabularies

TokenizerPtr ByteLevel(const std::string& pre = "gpt-2", const std::vector<std::string>& merges = {}) {
  return Tokenizer::Create(SmallByteLevelSpec(pre, merges)).value();
}

std::vector<std::string> Pieces(const Tokenizer& tokenizer, std::string_view text,
                                const EncodeOptions& options = {}) {
  std::vector<std::string> pieces;
  const std::vector<int32_t> ids = tokenizer.Encode(text, options).value();
  for (const int32_t id : ids) {
    pieces.emplace_back(tokenizer.TokenToPiece(id).value());
  }
  return pieces;
}

TEST(TokenizerTest, MergesThePairOfLowestRankFirstAndTheLeftmostOfEquals) {
  const TokenizerPtr tokenizer = ByteLevel("gpt-2", {"b c", "a b", "ab c", "a a"});
  EXPECT_THAT(Pieces(*tokenizer, "abc"), ElementsAre("a", "bc"));
  EXPECT_THAT(Pieces(*tokenizer, "aaa"), ElementsAre("aa", "a"));
}

TEST(TokenizerTest, MergesDoNotReachAcrossWords) {
  const TokenizerPtr tokenizer = ByteLevel("gpt-2", {"a \xC4\xA0", "\xC4\xA0 b", "1 2"});
  EXPECT_THAT(Pieces(*tokenizer, "a b12"), ElementsAre("a",
                                                       "\xC4\xA0"
                                                       "b",
                                                       "12"));
  EXPECT_THAT(Pieces(*ByteLevel("smollm", {"1 2"}), "12"), ElementsAre("1", "2"));
}

TEST(TokenizerTest, ControlTokensInUntrustedTextAreText) {
  const TokenizerPtr tokenizer = ByteLevel();
  const std::string text = "a<|im_end|>";
  EXPECT_THAT(tokenizer->Encode(text, {.parse_special = true}).value(), ElementsAre(kByte + 'a', 1));
  const std::vector<int32_t> ids = tokenizer->Encode(text, {}).value();
  EXPECT_EQ(ids.size(), text.size());
  for (const int32_t id : ids) EXPECT_FALSE(tokenizer->IsSpecial(id));
  EXPECT_EQ(tokenizer->Decode(ids), text);
}

TEST(TokenizerTest, MergesCannotMakeAControlToken) {
  TokenizerSpec spec = SmallByteLevelSpec("gpt-2", {"a b", "ab c"});
  spec.token_types.back() = 3;  // "abc"
  const TokenizerPtr tokenizer = Tokenizer::Create(spec).value();
  EXPECT_THAT(Pieces(*tokenizer, "abc"), ElementsAre("ab", "c"));
  EXPECT_THAT(Pieces(*tokenizer, "abc", {.parse_special = true}), ElementsAre("abc"));
}

TEST(TokenizerTest, UserDefinedTokensAreFoundInAnyText) {
  EXPECT_THAT(ByteLevel()->Encode("a<tool>", {}).value(), ElementsAre(kByte + 'a', 2));
}

TEST(TokenizerTest, PiecesParseControlTokensOnlyWhereTheTemplateWroteThem) {
  const TokenizerPtr tokenizer = ByteLevel();
  const std::vector<TextPiece> pieces = {{"<|im_start|>", true}, {"<|im_end|>", false}, {"<|im_end|>", true}};
  const std::vector<int32_t> ids = tokenizer->EncodePieces(pieces, {}).value();
  ASSERT_EQ(ids.size(), 2 + std::string_view("<|im_end|>").size());
  EXPECT_EQ(ids.front(), 0);
  EXPECT_EQ(ids.back(), 1);
  for (size_t i = 1; i + 1 < ids.size(); ++i) EXPECT_FALSE(tokenizer->IsSpecial(ids[i]));
}

TEST(TokenizerTest, NoControlTokenIsAssembledAcrossTheBorderOfTrust) {
  const TokenizerPtr tokenizer = ByteLevel();
  for (const bool head_is_trusted : {true, false}) {
    const std::vector<TextPiece> pieces = {{"<|im_", head_is_trusted}, {"end|>", !head_is_trusted}};
    const std::vector<int32_t> ids = tokenizer->EncodePieces(pieces, {}).value();
    for (const int32_t id : ids) EXPECT_FALSE(tokenizer->IsSpecial(id));
  }
  // Neighbours that are both trusted are one text.
  const std::vector<TextPiece> both = {{"<|im_", true}, {"end|>", true}};
  EXPECT_THAT(tokenizer->EncodePieces(both, {}).value(), ElementsAre(1));
}

TEST(TokenizerTest, AUserCannotSwallowTheTemplatesOwnToken) {
  // "<|im_start" typed by the user runs into the template's "<|im_end|>".
  const TokenizerPtr tokenizer = ByteLevel();
  const std::vector<TextPiece> pieces = {{"<|im_end", false}, {"<|im_end|>", true}};
  EXPECT_EQ(tokenizer->EncodePieces(pieces, {}).value().back(), 1);
}

TEST(TokenizerTest, WordsReachAcrossPieces) {
  const TokenizerPtr tokenizer = ByteLevel("gpt-2", {"a b", "\xC4\xA0 ab"});
  const std::vector<TextPiece> pieces = {{"x ", true}, {"a", false}, {"b", true}};
  EXPECT_EQ(tokenizer->EncodePieces(pieces, {}).value(), tokenizer->Encode("x ab", {}).value());
}

TEST(TokenizerTest, RandomPiecesEncodeAsOneTextWhereNoControlTokenStands) {
  const TokenizerPtr tokenizer = ByteLevel("qwen2", {"a b", "\xC4\xA0 a", "c c", "ab c"});
  std::mt19937 random(7);
  for (int round = 0; round < 500; ++round) {
    std::string text;
    for (int i = 0; i < 20; ++i) text += "abc <|>\n"[random() % 8];
    std::vector<TextPiece> pieces;
    for (size_t pos = 0; pos < text.size();) {
      const size_t n_bytes = 1 + random() % 5;
      pieces.push_back({std::string_view(text).substr(pos, n_bytes), random() % 2 == 0});
      pos += n_bytes;
    }
    ASSERT_EQ(tokenizer->EncodePieces(pieces, {}).value(), tokenizer->Encode(text, {}).value()) << text;
  }
}

TEST(TokenizerTest, EachMaximalIllFormedPartIsOneReplacementCharacter) {
  const TokenizerPtr tokenizer = ByteLevel();
  const auto same = [&](std::string_view bytes, std::string_view text) {
    EXPECT_EQ(tokenizer->Encode(bytes, {}).value(), tokenizer->Encode(text, {}).value()) << bytes;
  };
  same(
      "a\xFF"
      "b",
      "a\xEF\xBF\xBD"
      "b");
  same("\xF0\x9F\x98", "\xEF\xBF\xBD");                          // a beginning: one
  same("\xE0\x80\x80", "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD");  // overlong: three
  same("\xED\xA0\x80", "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD");  // a surrogate: three
  same("\xC3(", "\xEF\xBF\xBD(");
}

TEST(TokenizerTest, LimitsAreRefusedOrCutOffByChoice) {
  const TokenizerPtr tokenizer = ByteLevel();
  EXPECT_THAT(tokenizer->Encode("abcd", {.max_tokens = 3}).status().message(),
              HasSubstr("more than 3 tokens"));
  EXPECT_EQ(tokenizer->Encode("abc", {.max_tokens = 3}).value().size(), 3u);
  EXPECT_EQ(tokenizer->Encode("abcd", {.max_tokens = 3, .truncate = true}).value().size(), 3u);
  EXPECT_THAT(tokenizer->Encode("abcd", {.max_bytes = 3}).status().message(), HasSubstr("more than 3 bytes"));
}

TEST(TokenizerTest, SentencePieceBytesStandInForUnknownCharacters) {
  const std::string meta = "\xE2\x96\x81";
  const TokenizerPtr tokenizer =
      Tokenizer::Create(SmallSentencePieceSpec({meta, "a", "b", meta + "a", "ab", meta + "ab"})).value();
  EXPECT_THAT(Pieces(*tokenizer, "ab a"), ElementsAre(meta + "ab", meta + "a"));
  EXPECT_THAT(Pieces(*tokenizer, "é"), ElementsAre(meta, "<0xC3>", "<0xA9>"));
  EXPECT_THAT(Pieces(*tokenizer, "a", {.add_special = true}), ElementsAre("<s>", meta + "a"));
  EXPECT_EQ(tokenizer->Decode(tokenizer->Encode("ab  aéb", {}).value()), "ab  aéb");
  EXPECT_THAT(tokenizer->Encode("", {}).value(), IsEmpty());
}

TEST(TokenizerTest, WordPieceTakesTheLongestPieceAndKeepsItsFrameWhenCut) {
  const TokenizerPtr tokenizer =
      Tokenizer::FromJson(SmallWordPieceJson({"un", "##aff", "##able", "##a", "!", "una"}), "").value();
  EXPECT_THAT(Pieces(*tokenizer, "Unaffable!"), ElementsAre("[UNK]", "!"));  // "una" leads into a dead end
  EXPECT_THAT(Pieces(*tokenizer, "un una!"), ElementsAre("un", "una", "!"));
  EXPECT_THAT(Pieces(*tokenizer, "[SEP]"), ElementsAre("[UNK]", "[UNK]", "[UNK]"));
  EXPECT_THAT(Pieces(*tokenizer, "un un un un", {.add_special = true, .max_tokens = 4, .truncate = true}),
              ElementsAre("[CLS]", "un", "un", "[SEP]"));
  EXPECT_THAT(Pieces(*tokenizer, std::string(101, 'a')), ElementsAre("[UNK]"));
}

TEST(TokenizerTest, WhatIsNotKnownIsRefusedByName) {
  const auto refusal = [](const auto& change) {
    nlohmann::json root = nlohmann::json::parse(SmallWordPieceJson({"a"}));
    change(root);
    return std::string(ToStd(Tokenizer::FromJson(root.dump(), "").status().message()));
  };
  EXPECT_THAT(refusal([](auto& j) { j["model"]["type"] = "Unigram"; }), HasSubstr("Unigram"));
  EXPECT_THAT(refusal([](auto& j) { j["normalizer"]["type"] = "Nmt"; }), HasSubstr("normalizer Nmt"));
  EXPECT_THAT(refusal([](auto& j) { j["pre_tokenizer"]["type"] = "CharDelimiterSplit"; }),
              HasSubstr("pre_tokenizer CharDelimiterSplit"));
  EXPECT_THAT(refusal([](auto& j) { j["decoder"]["type"] = "CTC"; }), HasSubstr("decoder CTC"));
  EXPECT_THAT(refusal([](auto& j) { j["post_processor"]["type"] = "RobertaProcessing"; }),
              HasSubstr("post_processor RobertaProcessing"));
  TokenizerSpec spec = SmallByteLevelSpec("falcon", {});
  EXPECT_THAT(Tokenizer::Create(spec).status().message(), HasSubstr("\"falcon\""));
  spec.model = "t5";
  EXPECT_THAT(Tokenizer::Create(spec).status().message(), HasSubstr("\"t5\""));
}

TEST(TokenizerTest, TheDigestCoversVocabularyMergesAndKind) {
  const Digest digest = ByteLevel("gpt-2", {"a b", "b c"})->digest();
  EXPECT_EQ(digest, ByteLevel("gpt-2", {"a b", "b c"})->digest());
  EXPECT_NE(digest, ByteLevel("smollm", {"a b", "b c"})->digest());
  EXPECT_NE(digest, ByteLevel("gpt-2", {"a b"})->digest());
  TokenizerSpec swapped = SmallByteLevelSpec("gpt-2", {"a b", "b c"});
  std::swap(swapped.merges[0], swapped.merges[1]);
  EXPECT_NE(digest, Tokenizer::Create(swapped).value()->digest());
}

TEST(TokenizerTest, ThreadsShareOneTokenizer) {
  const TokenizerPtr tokenizer = ByteLevel("llama-bpe", {"a b", "ab c", "\xC4\xA0 a"});
  std::vector<std::string> texts;
  for (int i = 0; i < 200; ++i) texts.push_back("abc a" + std::to_string(i * 7919) + " bca abc");
  std::vector<std::vector<int32_t>> want;
  const TokenizerPtr alone = ByteLevel("llama-bpe", {"a b", "ab c", "\xC4\xA0 a"});
  for (const std::string& text : texts) want.push_back(alone->Encode(text, {}).value());
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      for (size_t i = 0; i < texts.size(); ++i) EXPECT_EQ(tokenizer->Encode(texts[i], {}).value(), want[i]);
    });
  }
  for (std::thread& thread : threads) thread.join();
}

TEST(TokenizerTest, SmolLm2ReadsFromItsFile) {
  const std::filesystem::path path = testing::RealBase();
  if (!std::filesystem::exists(path)) GTEST_SKIP() << "no " << path;
  const TokenizerPtr tokenizer = LoadTokenizer(GgufFile::Open(path).value()).value();
  EXPECT_EQ(tokenizer->vocab_size(), 49152u);
  EXPECT_EQ(tokenizer->special_ids().bos, 1);
  EXPECT_THAT(tokenizer->special_ids().eos, ElementsAre(2));
  EXPECT_THAT(tokenizer->Encode("Hello, world! 2024", {}).value(),
              ElementsAre(19556, 28, 905, 17, 216, 34, 32, 34, 36));
  EXPECT_EQ(tokenizer->Decode(tokenizer->Encode("naïve 你好 🙂\n\n\tx", {}).value()),
            "naïve 你好 🙂\n\n\tx");
}

}  // namespace
}  // namespace coterie
