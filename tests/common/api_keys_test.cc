#include "common/api_keys.h"

#include <set>

#include "common/name_patterns.h"
#include "common/unix_time.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace coterie {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

const std::string kHash = HashApiKey("coterie-secret").ToHex();

std::string Listed(const std::string& fields) {
  return R"({"keys": [{"id": "ann", "sha256": ")" + kHash + R"(", "tenant": "physics")" + fields + "}]}";
}

Status Refusal(const std::string& text) { return ParseApiKeys(text, "keys.json").status(); }

TEST(ApiKeysTest, WhatIsPrintedIsReadAgain) {
  ApiKey all;
  all.id = "Ann-1.x_y";
  all.digest = HashApiKey("one");
  all.tenant = "Physik und Ähnliches";
  all.experts = {"law-*", "code"};
  all.requests_per_minute = 60;
  all.tokens_per_minute = 100'000;
  all.concurrent_requests = 4;
  all.max_priority = -3;
  all.created_unix = 1'796'000'000;
  all.expires_unix = 1'800'000'000;
  all.revoked = true;
  ApiKey few;
  few.id = "bob";
  few.digest = HashApiKey("two");
  few.tenant = "bob";
  few.experts.emplace();  // none, which is not the same as all
  const auto read = ParseApiKeys(PrintApiKeys({all, few}), "keys.json");
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_EQ(*read, (std::vector<ApiKey>{all, few}));
  EXPECT_EQ(ParseApiKeys(PrintApiKeys({}), "keys.json")->size(), 0u);
}

TEST(ApiKeysTest, DatesAreReadWithAndWithoutTime) {
  const auto keys = ParseApiKeys(Listed(R"(, "expires": "2027-01-31")"), "keys.json");
  ASSERT_TRUE(keys.ok()) << keys.status();
  EXPECT_EQ(FormatUtc(*keys->front().expires_unix), "2027-01-31T00:00:00Z");
  for (const char* wrong : {"tomorrow", "", "infinite-future", "2027-13-01", "31.01.2027"}) {
    EXPECT_FALSE(ParseUtc(wrong).ok()) << wrong;
  }
}

TEST(ApiKeysTest, WrongFieldsAreNamed) {
  const std::pair<std::string, const char*> cases[] = {
      {Listed(R"(, "request_per_minute": 5)"), "\"request_per_minute\" is not known"},
      {Listed(R"(, "requests_per_minute": -1)"), "requests_per_minute"},
      {Listed(R"(, "requests_per_minute": 1.5)"), "requests_per_minute"},
      {Listed(R"(, "tokens_per_minute": "many")"), "tokens_per_minute"},
      {Listed(R"(, "concurrent_requests": 1000001)"), "concurrent_requests"},
      {Listed(R"(, "max_priority": 101)"), "max_priority"},
      {Listed(R"(, "experts": "law-*")"), "experts"},
      {Listed(R"(, "experts": ["Law"])"), "\"Law\" is no pattern"},
      {Listed(R"(, "experts": [""])"), "experts"},
      {Listed(R"(, "expires": "soon")"), "expires"},
      {Listed(R"(, "revoked": "yes")"), "revoked"},
      {Listed(R"(, "revoked": false, "revoked": true)"), "appears twice"},
      {R"({"keys": [{"id": "a", "tenant": "t"}]})", "sha256"},
      {R"({"keys": [{"id": "a b", "sha256": ")" + kHash + R"(", "tenant": "t"}]})", "id is \"a b\""},
      {R"({"keys": [{"id": "a", "sha256": ")" + kHash + R"(", "tenant": ""}]})", "tenant"},
      {R"({"keys": {}})", "\"keys\" is no list"},
      {R"({"keyz": []})", "\"keyz\" is not known"},
      {"[]", "no JSON object"},
      {"", "not JSON"},
      {std::string(100'000, '['), "nested deeper"},
  };
  for (const auto& [text, words] : cases) {
    EXPECT_EQ(Refusal(text).code(), absl::StatusCode::kInvalidArgument) << text;
    EXPECT_THAT(std::string(Refusal(text).message()), HasSubstr(words)) << text;
    EXPECT_THAT(std::string(Refusal(text).message()), HasSubstr("keys.json")) << text;
  }
}

TEST(ApiKeysTest, IdsAndKeysStandThereOnce) {
  ApiKey one;
  one.id = "ann";
  one.digest = HashApiKey("one");
  one.tenant = "t";
  ApiKey two = one;
  two.digest = HashApiKey("two");
  EXPECT_THAT(std::string(Refusal(PrintApiKeys({one, two})).message()), HasSubstr("\"ann\" is there twice"));
  two = one;
  two.id = "bob";
  EXPECT_THAT(std::string(Refusal(PrintApiKeys({one, two})).message()), HasSubstr("same key"));
}

// Somebody writes the key where its hash, its name or a file of hashes belongs: the log must not show it.
TEST(ApiKeysTest, NoErrorShowsAKey) {
  const std::string key = DrawApiKey();
  const std::string hash = HashApiKey("other").ToHex();
  for (const std::string& text :
       {key, "\"" + key + "\"", R"({"keys": [")" + key + "\"]}", R"({"keys": ")" + key + "\"}",
        R"({"keys": [)" + key + "]}", R"({"keys": [{"id": "a", "tenant": "t", "sha256": ")" + key + "\"}]}",
        R"({"keys": [{"id": ")" + key + R"(", "tenant": "t", "sha256": ")" + hash + "\"}]}"}) {
    const Status status = Refusal(text);
    EXPECT_FALSE(status.ok()) << text;
    EXPECT_THAT(status.ToString(), Not(HasSubstr(key.substr(8, 12)))) << text;
  }
}

TEST(ApiKeysTest, EveryKeyIsAnother) {
  std::set<std::string> keys;
  for (int i = 0; i < 100; ++i) keys.insert(DrawApiKey());
  EXPECT_EQ(keys.size(), 100u);
  for (const std::string& key : keys) {
    EXPECT_EQ(key.size(), 51u);  // 256 bits
    EXPECT_EQ(key.substr(0, 8), "coterie-");
    EXPECT_EQ(key.find_first_of("=+/ "), std::string::npos);
  }
}

TEST(NamePatternsTest, MatchesAsAShellDoes) {
  const NamePatterns patterns({"law-*", "cod?", "x[12]"});
  for (const char* name : {"law-", "law-fr", "code", "x1"}) EXPECT_TRUE(patterns.Match(name)) << name;
  for (const char* name : {"law", "codes", "x3", "base"}) EXPECT_FALSE(patterns.Match(name)) << name;
  EXPECT_FALSE(NamePatterns({}).Match("law"));
}

}  // namespace
}  // namespace coterie
