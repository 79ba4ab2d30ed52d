#include "common/utf8.h"

#include <random>

#include "gtest/gtest.h"

namespace coterie {
namespace {

TEST(Utf8Test, CutsBetweenCharacters) {
  EXPECT_EQ(CutUtf8("größe", 6), "größ");
  EXPECT_EQ(CutUtf8("größe", 5), "grö");
  EXPECT_EQ(CutUtf8("größe", 3), "gr");
  EXPECT_EQ(CutUtf8("größe", 100), "größe");
  EXPECT_EQ(CutUtf8("\x80\x80\x80\x80\x80\x80", 5).size(), 2u)
      << "no beginning is looked for further than a character goes";
}

TEST(Utf8Test, PrintableKeepsTextAndShowsTheRest) {
  EXPECT_EQ(Printable("größe\n\t€ 😀"), "größe\n\t€ 😀");
  EXPECT_EQ(Printable("a\xff\x62\xc3"),
            "a\xEF\xBF\xBD"
            "b\xEF\xBF\xBD");
  EXPECT_EQ(Printable("\x1b[31m\r\x7f\xc2\x9b"), "\xEF\xBF\xBD[31m\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD");
  EXPECT_EQ(Printable(std::string(1, '\0')), "\xEF\xBF\xBD");
  std::mt19937 random(1);
  for (int round = 0; round < 1000; ++round) {
    std::string bytes(random() % 40, '\0');
    for (char& byte : bytes) byte = static_cast<char>(random());
    const std::string shown = Printable(bytes);
    EXPECT_TRUE(IsWellFormed(shown));
    EXPECT_EQ(Printable(shown), shown);
  }
}

}  // namespace
}  // namespace coterie
