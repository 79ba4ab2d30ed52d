#include "common/member_list.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace coterie {
namespace {

using ::testing::HasSubstr;

TEST(MemberListTest, ReadsNamesAndWeights) {
  const auto members = ParseMemberList("law:0.75, math@01234567:.25");
  ASSERT_TRUE(members.ok()) << members.status();
  ASSERT_EQ(members->size(), 2u);
  EXPECT_EQ((*members)[0].expert, "law");
  EXPECT_EQ((*members)[0].weight, 0.75f);
  EXPECT_EQ((*members)[1].expert, "math@01234567");
  EXPECT_EQ((*members)[1].weight, 0.25f);
  const auto plain = ParseMemberList("law");
  ASSERT_TRUE(plain.ok());
  EXPECT_FALSE((*plain)[0].weight.has_value());
}

TEST(MemberListTest, NamesTheEntryThatIsNone) {
  for (const char* text : {"a,b:x", "a,b:", "a,b:0.5:0.5"}) {
    const auto members = ParseMemberList(text);
    EXPECT_THAT(std::string(members.status().message()), HasSubstr("\"b:")) << text;
  }
}

}  // namespace
}  // namespace coterie
