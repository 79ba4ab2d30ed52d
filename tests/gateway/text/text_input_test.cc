#include "gateway/text/text_input.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

namespace coterie::gateway {
namespace {

using ::testing::ElementsAre;

TEST(TextInputTest, TheUsersLastMessagesBeginAtTheSameOneForMostQuestions) {
  TextInput input;
  std::vector<std::string> begins;
  for (size_t i = 0; i < 10; ++i) {
    input.chat.push_back({"user", absl::StrCat(i)});
    input.chat.push_back({"assistant", "said"});
    const std::vector<std::string> read = input.UserMessages(4);
    begins.push_back(read.front());
    EXPECT_EQ(read.back(), absl::StrCat(i));
    EXPECT_LE(read.size(), 4u);
    EXPECT_GE(read.size(), std::min<size_t>(i + 1, 3));
    EXPECT_THAT(input.UserMessages(1), ElementsAre(absl::StrCat(i)));
  }
  EXPECT_THAT(begins, ElementsAre("0", "0", "0", "0", "2", "2", "4", "4", "6", "6"));
  // Empty ones say nothing, but for the question.
  input.chat = {{"user", "a"}, {"user", ""}, {"user", "b"}, {"user", ""}};
  EXPECT_THAT(input.UserMessages(4), ElementsAre("a", "b", ""));
  input.prompt = "one";
  EXPECT_THAT(input.UserMessages(4), ElementsAre("one"));
  TextInput no_user;
  no_user.chat = {{"system", "only"}};
  EXPECT_THAT(no_user.UserMessages(4), ElementsAre("only"));
}

}  // namespace
}  // namespace coterie::gateway
