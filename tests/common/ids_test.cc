#include "common/ids.h"

#include "gtest/gtest.h"

namespace coterie {
namespace {

TEST(IdsTest, NamesAreLowerCaseWordsOfAtMost64Characters) {
  EXPECT_TRUE(ValidateExpertName("postgres-15.2_b").ok());
  EXPECT_TRUE(ValidateExpertName(std::string(64, 'a')).ok());
  for (std::string bad :
       {"", "Postgres", ".hidden", "-x", "_x", "a/b", "a b", "a@b", "caf\xc3\xa9", "auto", "base"}) {
    EXPECT_EQ(ValidateExpertName(bad).code(), absl::StatusCode::kInvalidArgument) << bad;
  }
  EXPECT_EQ(ValidateExpertName(std::string(65, 'a')).message(),
            "expert name \"" + std::string(65, 'a') + "\" has 65 characters, the limit is 64");
}

TEST(IdsTest, SelectorsRoundTripThroughTheirText) {
  for (std::string text : {"auto", "base", "python", "python@0123abcd"}) {
    EXPECT_EQ(ToString(ParseExpertSelector(text).value()), text);
  }
  EXPECT_EQ(ParseExpertSelector("").value().kind, ExpertSelector::Kind::kAuto);
  const ExpertSelector selector = ParseExpertSelector("python@" + std::string(64, 'f')).value();
  EXPECT_EQ(selector.name, "python");
  EXPECT_EQ(selector.digest_prefix, std::string(64, 'f'));
}

TEST(IdsTest, MalformedSelectorsAreRefusedWithTheRule) {
  for (std::string bad : {"python@", "python@1234567", "python@0123ABCD", "@01234567", "auto@01234567"}) {
    EXPECT_EQ(ParseExpertSelector(bad).status().code(), absl::StatusCode::kInvalidArgument) << bad;
  }
  EXPECT_EQ(ParseExpertSelector("python@12").status().message(),
            "expert \"python@12\": the digest after '@' must be 8 to 64 lower-case hexadecimal digits");
}

TEST(IdsTest, AnErrorQuotesOnlyPrintableText) {
  EXPECT_EQ(ValidateExpertName("a\nb").message(),
            "expert name \"a\\nb\" may hold only a-z, 0-9, '.', '_' and '-'");
}

}  // namespace
}  // namespace coterie
