#include "common/quoted.h"

#include <random>

#include "common/utf8.h"
#include "gtest/gtest.h"

namespace coterie {
namespace {

TEST(QuotedTest, OrdinaryTextStaysAsItIs) {
  EXPECT_EQ(Quoted("model.layers.0"), "\"model.layers.0\"");
  EXPECT_EQ(Quoted("größe € 😀 家"), "\"größe € 😀 家\"");
  EXPECT_EQ(Quoted(""), "\"\"");
  EXPECT_EQ(Shown("it's \"so\" \\ there"), "it's \"so\" \\ there");
}

TEST(QuotedTest, WhatSteersATerminalOrEndsALineIsEscaped) {
  EXPECT_EQ(Quoted("a\nb\tc\rd"), "\"a\\nb\\tc\\rd\"");
  EXPECT_EQ(Quoted("\x1b[31m\x7f"), "\"\\x1b[31m\\x7f\"");
  EXPECT_EQ(Quoted(std::string(1, '\0')), "\"\\x00\"");
  EXPECT_EQ(Quoted("\xc2\x85\xc2\x9b"), "\"\\u0085\\u009b\"");  // C1
  EXPECT_EQ(Shown("a\u2028b\u202ec\u2066d\u200be\ufeff"),       // lines, direction, unseen
            "a\\u2028b\\u202ec\\u2066d\\u200be\\ufeff");
  EXPECT_EQ(Shown("\xF3\xA0\x81\x81"), "\\ue0041");  // a tag character
  EXPECT_EQ(Quoted("say \"hi\" \\"), "\"say \\\"hi\\\" \\\\\"");
}

TEST(QuotedTest, BytesThatAreNoUtf8AreEscaped) {
  EXPECT_EQ(Quoted("a\xff\x62\xc3"), "\"a\\xffb\\xc3\"");
  EXPECT_EQ(Shown("\xed\xa0\x80"), "\\xed\\xa0\\x80");  // a surrogate
}

TEST(QuotedTest, LongTextIsCutBetweenCharactersAndSaysSo) {
  EXPECT_EQ(Quoted("abcdef", 3), "\"abc…\"");
  EXPECT_EQ(Quoted("abc", 3), "\"abc\"");
  EXPECT_EQ(Shown("aöö", 2), "a…");
  EXPECT_EQ(Quoted(std::string(kMaxQuotedBytes, 'x')), "\"" + std::string(kMaxQuotedBytes, 'x') + "\"");
  EXPECT_EQ(Quoted(std::string(kMaxQuotedBytes + 1, 'x')), "\"" + std::string(kMaxQuotedBytes, 'x') + "…\"");
}

TEST(QuotedTest, AnyBytesGiveOneBoundedLineOfUtf8) {
  std::mt19937 random(7);
  for (int round = 0; round < 2000; ++round) {
    std::string bytes(random() % 300, '\0');
    // Half of them from the bytes with which longer characters begin and go on.
    for (char& byte : bytes) byte = static_cast<char>(round % 2 == 0 ? random() : 0x80 | random());
    for (const std::string& shown : {Quoted(bytes), Shown(bytes)}) {
      EXPECT_TRUE(IsWellFormed(shown));
      EXPECT_EQ(shown.find('\n'), std::string::npos);
      EXPECT_EQ(Printable(shown), shown);
      EXPECT_LE(shown.size(), 4 * kMaxQuotedBytes + 5);
    }
  }
}

}  // namespace
}  // namespace coterie
