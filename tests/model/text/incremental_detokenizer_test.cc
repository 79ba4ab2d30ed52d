#include "model/text/incremental_detokenizer.h"

#include <random>

#include "gtest/gtest.h"
#include "model/text/unicode.h"
#include "tests/model/text/text_testing.h"

namespace coterie {
namespace {

using TokenizerPtr = std::shared_ptr<const Tokenizer>;

std::string Stream(const TokenizerPtr& tokenizer, const std::vector<int32_t>& ids) {
  IncrementalDetokenizer detokenizer(tokenizer);
  std::string out;
  for (const int32_t id : ids) {
    const std::string piece = detokenizer.Append(id);
    EXPECT_TRUE(text::IsWellFormed(piece));
    out += piece;
  }
  return out + detokenizer.Flush();
}

std::vector<int32_t> RandomIds(const Tokenizer& tokenizer, std::mt19937* random) {
  std::vector<int32_t> ids((*random)() % 30);
  for (int32_t& id : ids) id = static_cast<int32_t>((*random)() % tokenizer.vocab_size());
  return ids;
}

TEST(IncrementalDetokenizerTest, ByteLevelTextIsThatOfDecodingAtOnceWhateverTheTokens) {
  const TokenizerPtr tokenizer =
      Tokenizer::Create(SmallByteLevelSpec("gpt-2", {"\xC3\xA3 \xC4\xA3", "a b", "\xC4\xA0 a"})).value();
  std::mt19937 random(1);
  for (int round = 0; round < 3000; ++round) {
    const std::vector<int32_t> ids = RandomIds(*tokenizer, &random);
    ASSERT_EQ(Stream(tokenizer, ids), tokenizer->Decode(ids));
  }
}

TEST(IncrementalDetokenizerTest, WordPieceTextIsThatOfDecodingAtOnce) {
  const TokenizerPtr tokenizer =
      Tokenizer::FromJson(SmallWordPieceJson({"do", "not", "##s", "'", "n't", ".", "a", "##b"}), "").value();
  std::mt19937 random(2);
  for (int round = 0; round < 1000; ++round) {
    const std::vector<int32_t> ids = RandomIds(*tokenizer, &random);
    ASSERT_EQ(Stream(tokenizer, ids), tokenizer->Decode(ids));
  }
}

TEST(IncrementalDetokenizerTest, HoldsACharacterBackUntilItsLastByte) {
  const TokenizerPtr tokenizer = Tokenizer::Create(SmallByteLevelSpec("gpt-2", {})).value();
  IncrementalDetokenizer detokenizer(tokenizer);
  EXPECT_EQ(detokenizer.Append(3 + 0xF0), "");
  EXPECT_EQ(detokenizer.Append(3 + 0x9F), "");
  EXPECT_EQ(detokenizer.Append(3 + 0x99), "");
  EXPECT_EQ(detokenizer.Append(3 + 0x82), "\xF0\x9F\x99\x82");
  EXPECT_EQ(detokenizer.Append(3 + 0xE4), "");
  EXPECT_EQ(detokenizer.Append(3 + 'x'), "\xEF\xBF\xBDx");
  EXPECT_EQ(detokenizer.Append(3 + 0xE4), "");
  EXPECT_EQ(detokenizer.Flush(), "\xEF\xBF\xBD");
}

class ByteFallback : public ::testing::Test {
 protected:
  const std::string meta_ = "\xE2\x96\x81";
  const TokenizerPtr tokenizer_ =
      Tokenizer::Create(SmallSentencePieceSpec({meta_, "a", meta_ + "a", "b"})).value();
  static int32_t Byte(unsigned char byte) { return 3 + byte; }
};

TEST_F(ByteFallback, GivesACharacterOutWithItsLastByteToken) {
  IncrementalDetokenizer detokenizer(tokenizer_);
  EXPECT_EQ(detokenizer.Append(Byte(0xC3)), "");
  EXPECT_EQ(detokenizer.Append(Byte(0xA9)), "é");
}

TEST_F(ByteFallback, StripsOneLeadingSpaceOfTheWholeText) {
  const int32_t word = tokenizer_->IdOf(meta_ + "a").value();
  const int32_t space = tokenizer_->IdOf(meta_).value();
  EXPECT_EQ(Stream(tokenizer_, {word, word}), "a a");
  EXPECT_EQ(Stream(tokenizer_, {space, word}), " a");
  EXPECT_EQ(Stream(tokenizer_, {1, word, 2}), "a");  // <s> and </s> are not shown
}

TEST_F(ByteFallback, TextIsThatOfDecodingAtOnceWhereBytesMakeCharacters) {
  std::mt19937 random(3);
  for (int round = 0; round < 3000; ++round) {
    std::vector<int32_t> ids;
    for (size_t n = random() % 10; n > 0; --n) {
      if (random() % 2 == 0) {
        ids.push_back(259 + static_cast<int32_t>(random() % 4));
        continue;
      }
      const char32_t runes[] = {U'é', U'你', U'\U0001F642', U' ', U'x'};
      std::string character;
      text::AppendRune(runes[random() % 5], &character);
      for (const char byte : character) ids.push_back(Byte(static_cast<unsigned char>(byte)));
    }
    ASSERT_EQ(Stream(tokenizer_, ids), tokenizer_->Decode(ids));
  }
}

TEST_F(ByteFallback, BytesThatFitNowhereAreReplacedOneByOne) {
  EXPECT_EQ(Stream(tokenizer_, {Byte(0xC3), Byte(0xA9), Byte(0xE4), Byte(0xBD)}),
            "é\xEF\xBF\xBD\xEF\xBF\xBD");
  EXPECT_EQ(Stream(tokenizer_, {Byte(0xFF), 260}),
            "\xEF\xBF\xBD"
            "a");
}

}  // namespace
}  // namespace coterie
