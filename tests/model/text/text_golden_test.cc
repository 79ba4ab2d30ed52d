#include <cstring>
#include <map>

#include "common/file.h"
#include "gtest/gtest.h"
#include "model/format/gguf.h"
#include "model/text/gguf_tokenizer.h"
#include "model/text/incremental_detokenizer.h"
#include "nlohmann/json.hpp"
#include "tests/model/text/text_testing.h"
#include "tests/real_models.h"
#include "tests/source_root.h"

// Holds the tokenizers to what Hugging Face `tokenizers` answered (tests/golden/make_tokens.py, which also
// describes the formats).
namespace coterie {
namespace {

using Json = nlohmann::json;
using TokenizerPtr = std::shared_ptr<const Tokenizer>;

std::string FromHex(const std::string& hex) {
  std::string bytes;
  for (size_t i = 0; i + 1 < hex.size(); i += 2) {
    bytes.push_back(static_cast<char>(std::stoi(hex.substr(i, 2), nullptr, 16)));
  }
  return bytes;
}

std::vector<std::string> Strings() {
  std::vector<std::string> strings;
  const Json stored =
      Json::parse(ReadFile(testing::SourceRoot() / "tests/golden/token_strings.json", 16 << 20).value());
  for (const Json& entry : stored) {
    strings.push_back(entry.is_string() ? entry.get<std::string>()
                                        : FromHex(entry.at("hex").get<std::string>()));
  }
  return strings;
}

struct Answer {
  std::vector<int32_t> trusted;
  std::vector<int32_t> untrusted;
};

class Reader {
 public:
  explicit Reader(std::string bytes) : bytes_(std::move(bytes)) {}
  template <typename T>
  T Next() {
    T value{};
    if (pos_ + sizeof(T) > bytes_.size()) throw std::out_of_range("the golden file ends early");
    std::memcpy(&value, bytes_.data() + pos_, sizeof(T));
    pos_ += sizeof(T);
    return value;
  }
  std::vector<int32_t> Ids(uint16_t n) {
    std::vector<int32_t> ids;
    for (uint16_t i = 0; i < n; ++i) ids.push_back(Next<uint16_t>());
    return ids;
  }
  bool at_end() const { return pos_ == bytes_.size(); }

 private:
  std::string bytes_;
  size_t pos_ = 0;
};

std::vector<Answer> Answers(const std::string& kind) {
  Reader reader(ReadFile(testing::SourceRoot() / ("tests/golden/tokens-" + kind + ".bin"), 64 << 20).value());
  EXPECT_EQ(reader.Next<uint32_t>(), 0x4B4F5443u);  // "CTOK"
  EXPECT_EQ(reader.Next<uint32_t>(), 1u);
  std::vector<Answer> answers(reader.Next<uint32_t>());
  for (Answer& answer : answers) {
    answer.trusted = reader.Ids(reader.Next<uint16_t>());
    const auto n = reader.Next<uint16_t>();
    answer.untrusted = n == 0xFFFF ? answer.trusted : reader.Ids(n);
  }
  EXPECT_TRUE(reader.at_end());
  return answers;
}

class TextGolden : public ::testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    const std::string kind = GetParam();
    if (kind == "smollm2") {
      const std::filesystem::path path = testing::RealBase();
      if (!std::filesystem::exists(path)) GTEST_SKIP() << "no " << path;
      tokenizer_ = LoadTokenizer(GgufFile::Open(path).value()).value();
      return;
    }
    const std::filesystem::path folder = kind == "minilm"
                                             ? testing::RealModels() / "all-MiniLM-L6-v2"
                                             : testing::SourceRoot() / "tests/data/tokenizers" / kind;
    if (kind == "minilm" && !std::filesystem::exists(folder)) GTEST_SKIP() << "no " << folder;
    const StatusOr<TokenizerPtr> tokenizer = Tokenizer::FromFolder(folder);
    ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
    tokenizer_ = *tokenizer;
  }
  TokenizerPtr tokenizer_;
};

TEST_P(TextGolden, EncodesEveryStringAsTheReferenceDoes) {
  const std::vector<std::string> strings = Strings();
  const std::vector<Answer> answers = Answers(GetParam());
  ASSERT_EQ(answers.size(), strings.size());
  ASSERT_GT(strings.size(), 5000u);
  for (size_t i = 0; i < strings.size(); ++i) {
    EXPECT_EQ(tokenizer_->Encode(strings[i], {.parse_special = true}).value(), answers[i].trusted)
        << strings[i];
    EXPECT_EQ(tokenizer_->Encode(strings[i], {}).value(), answers[i].untrusted) << strings[i];
  }
}

TEST_P(TextGolden, UntrustedTextNeverHoldsAControlToken) {
  for (const std::string& text : Strings()) {
    const std::vector<int32_t> ids = tokenizer_->Encode(text, {}).value();
    for (const int32_t id : ids) {
      EXPECT_TRUE(id == tokenizer_->special_ids().unk || !tokenizer_->IsSpecial(id)) << text;
    }
  }
}

TEST_P(TextGolden, DecodesAsTheReferenceDoes) {
  const Json all =
      Json::parse(ReadFile(testing::SourceRoot() / "tests/golden/token_decodes.json", 16 << 20).value());
  const Json& decodes = all.at(GetParam());
  ASSERT_GT(decodes.size(), 100u);
  for (const Json& decode : decodes) {
    const auto ids = decode.at("ids").get<std::vector<int32_t>>();
    const bool skip_special = decode.at("skip_special").get<bool>();
    const auto text = decode.at("text").get<std::string>();
    EXPECT_EQ(tokenizer_->Decode(ids, skip_special), text) << decode;
    // Streaming shows what could be shown before a byte run broke; elsewhere it is the same text.
    if (text.find("\xEF\xBF\xBD") != std::string::npos) continue;
    IncrementalDetokenizer detokenizer(tokenizer_, {.skip_special = skip_special});
    std::string streamed;
    for (const int32_t id : ids) streamed += detokenizer.Append(id);
    EXPECT_EQ(streamed + detokenizer.Flush(), text) << decode;
  }
}

INSTANTIATE_TEST_SUITE_P(, TextGolden,
                         ::testing::Values("smollm2", "minilm", "llama3-like", "qwen2-like", "llama2-like",
                                           "metaspace"),
                         [](const auto& info) {
                           std::string name = info.param;
                           for (char& c : name) c = c == '-' ? '_' : c;
                           return name;
                         });

}  // namespace
}  // namespace coterie
