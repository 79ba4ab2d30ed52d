#include "common/wrapped_text.h"

#include "gtest/gtest.h"

namespace coterie {
namespace {

TEST(WrappedTextTest, BreaksAtWhiteSpaceWhateverItWasWritten) {
  EXPECT_EQ(WrapText("one two three four five", 10), "one two\nthree four\nfive");
  EXPECT_EQ(WrapText("one\n  two\tthree", 40), "one two three");
  EXPECT_EQ(WrapText("one two three", 7, 2), "one two\n  three");
  EXPECT_EQ(WrapText("a-word-longer-than-a-line and more", 10), "a-word-longer-than-a-line\nand more");
  EXPECT_EQ(WrapText("", 10), "");
}

TEST(WrappedTextTest, LeavesNoShortWordAloneAndKeepsADefaultTogether) {
  EXPECT_EQ(WrapText("they take effect at once; what is", 31), "they take effect at once;\nwhat is");
  EXPECT_EQ(WrapText("how long it waits (default 5s)", 26), "how long it waits\n(default 5s)");
}

TEST(WrappedTextTest, CountsCharactersAndNotBytes) {
  EXPECT_EQ(TextColumns("größe ±"), 7u);
  EXPECT_EQ(WrapText("ä ö ü ä", 5), "ä ö\nü ä");
  EXPECT_EQ(WrapText("ää öö üü", 5), "ää öö\nüü");
}

}  // namespace
}  // namespace coterie
