#include "model/text/pre_kinds.h"

#include <filesystem>

#include "common/file.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "model/format/gguf.h"
#include "model/text/gguf_tokenizer.h"
#include "model/text/pre_kind_guess.h"
#include "nlohmann/json.hpp"
#include "tests/model/text/text_testing.h"
#include "tests/real_models.h"
#include "tests/source_root.h"

namespace coterie::text {
namespace {

using Json = nlohmann::json;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

std::vector<size_t> WordBytes(const PreKind& kind, const std::string& text) {
  NormalizedText normal{text, true};
  if (kind.normalizer != nullptr) {
    EXPECT_TRUE(kind.normalizer->Apply(&normal).ok());
  }
  std::vector<size_t> n_bytes;
  if (normal.text.empty()) return n_bytes;
  Words words;
  words.buffer = normal.text;
  words.spans = {{0, static_cast<uint32_t>(normal.text.size()), true}};
  EXPECT_TRUE(kind.pre_tokenizer->Apply(&words).ok());
  for (const Words::Span& span : words.spans) {
    // One character of the byte alphabet for each byte.
    size_t n = 0;
    for (size_t pos = span.begin; pos < span.end; ++n) (void)NextRune(words.buffer, &pos);
    n_bytes.push_back(n);
  }
  return n_bytes;
}

TEST(PreKindsTest, CutWordsAsTheReferenceDoesWithTheirExpressions) {
  std::vector<std::string> texts;
  for (const Json& entry :
       Json::parse(ReadFile(testing::SourceRoot() / "tests/golden/token_strings.json", 16 << 20).value()))
    if (entry.is_string()) texts.push_back(entry.get<std::string>());
  const Json golden =
      Json::parse(ReadFile(testing::SourceRoot() / "tests/golden/pre_words.json", 16 << 20).value());
  size_t offset = 0;
  for (const std::string_view name : PreKindNames()) {
    SCOPED_TRACE(name);
    const PreKind kind = MakePreKind(name).value();
    const Json& rows = golden.at(std::string(name));
    ASSERT_GT(rows.size(), 400u);
    for (size_t i = 0; i < rows.size(); ++i) {
      const std::string& text = texts.at(offset % 12 + i * 12);
      EXPECT_EQ(WordBytes(kind, text), rows[i].get<std::vector<size_t>>()) << text;
    }
    ++offset;
  }
}

TEST(PreKindsTest, AliasesAreServed) {
  const std::vector<std::pair<const char*, const char*>> aliases = {
      {"deepseek-r1-qwen", "qwen2"}, {"megrez", "qwen2"},     {"kormo", "qwen2"},
      {"falcon3", "llama-bpe"},      {"llama3", "llama-bpe"}, {"lfm2", "llama-bpe"},
      {"trillion", "gpt-2"},         {"refact", "smollm"},    {"starcoder", "smollm"},
      {"dbrx", "smaug-bpe"},         {"llama4", "gpt-4o"},    {"gpt2", "gpt-2"},
      {"midm-2.0", "llama-bpe"},     {"mellum", "gpt-2"},     {"pixtral", "llama-bpe"},
      {"exaone4", "gpt-2"}};
  for (const auto& [alias, name] : aliases) {
    const Digest digest = Tokenizer::Create(SmallByteLevelSpec(alias, {"a b"})).value()->digest();
    EXPECT_EQ(digest, Tokenizer::Create(SmallByteLevelSpec(name, {"a b"})).value()->digest()) << alias;
  }
  const Status unknown = Tokenizer::Create(SmallByteLevelSpec("no-such-kind", {})).status();
  EXPECT_EQ(unknown.code(), absl::StatusCode::kUnimplemented);
  EXPECT_THAT(std::string(unknown.message()),
              HasSubstr("tokenizer.ggml.pre is \"no-such-kind\"; known are gpt-2"));
}

// A GGUF's keys with the vocabulary of a tokenizer.json.
TokenizerSpec SpecOf(const std::string& folder) {
  const Json root = Json::parse(
      ReadFile(testing::SourceRoot() / "tests/data/tokenizers" / folder / "tokenizer.json", 16 << 20)
          .value());
  TokenizerSpec spec;
  spec.model = "gpt2";
  for (const auto& [token, id] : root["model"]["vocab"].items()) {
    if (id.get<size_t>() >= spec.tokens.size()) spec.tokens.resize(id.get<size_t>() + 1);
    spec.tokens[id.get<size_t>()] = token;
  }
  for (const Json& merge : root["model"]["merges"])
    spec.merges.push_back(merge[0].get<std::string>() + " " + merge[1].get<std::string>());
  spec.token_types.assign(spec.tokens.size(), 1);
  return spec;
}

TEST(PreKindGuessTest, TakesTheKindThatFitsTheVocabularyBest) {
  for (const auto& [folder, name] :
       {std::pair("llama3-like", "llama-bpe"), std::pair("qwen2-like", "qwen2")}) {
    TokenizerSpec spec = SpecOf(folder);
    const PreKindGuess guess = GuessPreKind(spec).value();
    EXPECT_EQ(guess.basis, PreKindGuess::Basis::kFits);
    for (const char* said : {"", "default"}) {
      spec.pre = said;
      const auto guessed = Tokenizer::Create(spec).value();
      spec.pre = name;
      const auto told = Tokenizer::Create(spec).value();
      EXPECT_THAT(guessed->warnings(), ElementsAre(HasSubstr("which fits its vocabulary best")));
      EXPECT_THAT(told->warnings(), IsEmpty());
      for (const std::string text : {"a(b).com;\n\nHTTPServer", "it's don't\r\n  x = y;"})
        EXPECT_EQ(guessed->Encode(text, {}).value(), told->Encode(text, {}).value()) << guess.name << text;
    }
  }
}

TEST(PreKindGuessTest, ASmallVocabularyDoesNotTellAndPeopleAreWarned) {
  for (const char* said : {"", "default"}) {
    const auto tokenizer = Tokenizer::Create(SmallByteLevelSpec(said, {"a b"})).value();
    EXPECT_THAT(tokenizer->warnings(),
                ElementsAre(HasSubstr("read as \"gpt-2\", since its vocabulary does not tell")));
  }
  EXPECT_THAT(Tokenizer::Create(SmallByteLevelSpec("gpt-2", {"a b"})).value()->warnings(), IsEmpty());
}

// A vocabulary with these tokens at their places.
TokenizerSpec Placed(size_t n, const std::vector<std::pair<size_t, std::string>>& placed) {
  TokenizerSpec spec;
  spec.model = "gpt2";
  for (size_t id = 0; id < n; ++id) spec.tokens.push_back("t" + std::to_string(id));
  for (const auto& [id, token] : placed) spec.tokens[id] = token;
  return spec;
}

TEST(PreKindGuessTest, KnownVocabulariesAreRecognised) {
  const std::string the = "\xC4\xA0the";
  const auto is = [](const TokenizerSpec& spec, const std::string& name) {
    const PreKindGuess guess = GuessPreKind(spec).value();
    return guess.basis == PreKindGuess::Basis::kKnown && guess.name == name;
  };
  EXPECT_TRUE(is(Placed(50257, {{0, "!"}, {262, the}, {50256, "<|endoftext|>"}}), "gpt-2"));
  EXPECT_TRUE(is(Placed(128256, {{279, the}, {128000, "<|begin_of_text|>"}, {128001, "<|end_of_text|>"}}),
                 "llama-bpe"));
  EXPECT_TRUE(is(Placed(152064, {{279, the},
                                 {1000, "atus"},
                                 {20000, "LANG"},
                                 {49151,
                                  "\xC4\xA0"
                                  "dispatched"}}),
                 "qwen2"));
  EXPECT_FALSE(is(Placed(152064, {{279, the}, {1000, "atus"}, {20000, "LANG"}}), "qwen2"));
  EXPECT_THAT(
      GuessPreKind(Placed(50257, {{0, "!"}, {262, the}, {50256, "<|endoftext|>"}})).value().Warning(""),
      HasSubstr("(tokenizer.ggml.pre is absent): read as \"gpt-2\", whose vocabulary it has"));
}

TEST(PreKindGuessTest, ARealVocabularyIsRecognised) {
  const std::filesystem::path path = testing::RealBase();
  if (!std::filesystem::exists(path)) GTEST_SKIP() << "no " << path;
  TokenizerSpec spec = ReadTokenizerSpec(GgufFile::Open(path).value()).value();
  const Digest told = Tokenizer::Create(spec).value()->digest();
  spec.pre = "default";
  EXPECT_EQ(Tokenizer::Create(spec).value()->digest(), told);
}

}  // namespace
}  // namespace coterie::text
