// Token ids against Hugging Face `tokenizers` over every string of make_tokens.py.
#include "model/text/tokenizer.h"

#include "common/file.h"
#include "gtest/gtest.h"
#include "model/format/gguf.h"
#include "model/text/gguf_tokenizer.h"
#include "nlohmann/json.hpp"
#include "tests/golden/golden_file.h"

namespace coterie {
namespace {

constexpr size_t kMaxBytes = size_t{16} << 20;
constexpr uint16_t kSameAsTrusted = 0xFFFF;

std::string FromHex(const std::string& hex) {
  std::string out;
  for (size_t i = 0; i + 1 < hex.size(); i += 2) {
    out.push_back(static_cast<char>(std::stoi(hex.substr(i, 2), nullptr, 16)));
  }
  return out;
}

std::vector<std::string> Strings() {
  const auto json = nlohmann::json::parse(ReadFile(GoldenPath("token_strings.json"), kMaxBytes).value());
  std::vector<std::string> strings;
  for (const auto& entry : json) {
    strings.push_back(entry.is_string() ? entry.get<std::string>() : FromHex(entry["hex"]));
  }
  return strings;
}

struct Expected {
  std::vector<int32_t> trusted, untrusted;
};

std::vector<Expected> ReadExpected(const std::string& kind) {
  const std::string content = ReadFile(GoldenPath("tokens-" + kind + ".bin"), kMaxBytes).value();
  size_t at = 12;
  uint32_t n_strings = 0;
  std::memcpy(&n_strings, content.data() + 8, 4);
  const auto number = [&] {
    uint16_t value = 0;
    std::memcpy(&value, content.data() + at, 2);
    at += 2;
    return value;
  };
  std::vector<Expected> all(n_strings);
  for (Expected& expected : all) {
    expected.trusted.resize(number());
    for (int32_t& id : expected.trusted) id = number();
    const uint16_t n = number();
    if (n == kSameAsTrusted) {
      expected.untrusted = expected.trusted;
      continue;
    }
    expected.untrusted.resize(n);
    for (int32_t& id : expected.untrusted) id = number();
  }
  EXPECT_EQ(at, content.size());
  return all;
}

std::filesystem::path FileOf(const std::string& kind) {
  if (kind == "smollm2") return RealModelPath("SmolLM2-135M-Instruct.Q4_1.gguf");
  if (kind == "minilm") return RealModelPath("all-MiniLM-L6-v2");
  return TestDataPath("tokenizers/" + kind);
}

std::shared_ptr<const Tokenizer> Load(const std::string& kind) {
  const std::filesystem::path path = FileOf(kind);
  if (kind != "smollm2") return Tokenizer::FromFolder(path).value();
  const GgufFile file = GgufFile::Open(path).value();
  return LoadTokenizer(file).value();
}

class TokenizerGoldenTest : public ::testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    const std::filesystem::path path = FileOf(GetParam());
    if (!std::filesystem::exists(path)) GTEST_SKIP() << path << " is not there; set COTERIE_MODELS";
  }
};

TEST_P(TokenizerGoldenTest, GivesTheReferencesIdsForEveryString) {
  const auto tokenizer = Load(GetParam());
  const std::vector<std::string> strings = Strings();
  const std::vector<Expected> expected = ReadExpected(GetParam());
  ASSERT_GE(strings.size(), 5000u);
  ASSERT_EQ(strings.size(), expected.size());
  int n_wrong = 0;
  for (size_t i = 0; i < strings.size(); ++i) {
    for (const bool is_trusted : {true, false}) {
      const auto ids = tokenizer->Encode(strings[i], {.parse_special = is_trusted});
      ASSERT_TRUE(ids.ok()) << ids.status();
      const std::vector<int32_t>& want = is_trusted ? expected[i].trusted : expected[i].untrusted;
      if (*ids == want || ++n_wrong > 10) continue;
      ADD_FAILURE()
          << "string " << i << (is_trusted ? " trusted: " : " untrusted: ")
          << nlohmann::json(strings[i]).dump(-1, ' ', true, nlohmann::json::error_handler_t::replace)
          << "\n  got  " << nlohmann::json(*ids) << "\n  want " << nlohmann::json(want);
    }
  }
  EXPECT_EQ(n_wrong, 0) << "of " << 2 * strings.size();
}

TEST_P(TokenizerGoldenTest, DecodesAsTheReference) {
  const auto tokenizer = Load(GetParam());
  const auto json = nlohmann::json::parse(ReadFile(GoldenPath("token_decodes.json"), kMaxBytes).value());
  const auto& cases = json.at(GetParam());
  ASSERT_GE(cases.size(), 300u);
  for (const auto& decoded : cases) {
    const auto ids = decoded["ids"].get<std::vector<int32_t>>();
    EXPECT_EQ(tokenizer->Decode(ids, decoded["skip_special"].get<bool>()), decoded["text"].get<std::string>())
        << decoded["ids"];
  }
}

INSTANTIATE_TEST_SUITE_P(EveryKind, TokenizerGoldenTest,
                         ::testing::Values("smollm2", "minilm", "llama3-like", "qwen2-like", "llama2-like",
                                           "metaspace"),
                         [](const auto& info) {
                           std::string name = info.param;
                           std::erase(name, '-');
                           return name;
                         });

}  // namespace
}  // namespace coterie
