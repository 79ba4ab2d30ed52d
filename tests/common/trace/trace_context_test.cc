#include "common/trace/trace_context.h"

#include <random>
#include <set>

#include "gtest/gtest.h"
#include "tests/testing/seed.h"

namespace coterie {
namespace {

constexpr char kTrace[] = "4bf92f3577b34da6a3ce929d0e0e4736";
constexpr char kSpan[] = "00f067aa0ba902b7";
const std::string kParent = std::string("00-") + kTrace + "-" + kSpan + "-01";

TEST(TraceContextTest, ReadsWhatItWrites) {
  const TraceContext context = ReadTraceContext(kParent, "vendor=opaque,other=1");
  ASSERT_TRUE(context);
  EXPECT_EQ(context.trace.ToHex(), kTrace);
  EXPECT_EQ(context.span.ToHex(), kSpan);
  EXPECT_TRUE(context.sampled);
  EXPECT_EQ(context.state, "vendor=opaque,other=1");
  EXPECT_EQ(context.ToTraceParent(), kParent);
}

TEST(TraceContextTest, OnlyTheLowestFlagSaysThatItIsSampled) {
  const std::string before = kParent.substr(0, kParent.size() - 2);
  for (const auto& [flags, sampled] : {std::pair("00", false), {"01", true}, {"02", false}, {"ff", true}}) {
    const TraceContext context = ReadTraceContext(before + flags, "");
    ASSERT_TRUE(context) << flags;
    EXPECT_EQ(context.sampled, sampled) << flags;
  }
}

TEST(TraceContextTest, ALaterVersionMayHaveMoreBehindADash) {
  const std::string later = "cc" + kParent.substr(2);
  EXPECT_TRUE(ReadTraceContext(later, ""));
  EXPECT_TRUE(ReadTraceContext(later + "-what-the-future-will-be-like", ""));
  EXPECT_FALSE(ReadTraceContext(later + ".what", ""));
  EXPECT_FALSE(ReadTraceContext(kParent + "-more", ""));  // version 00 has nothing more
}

TEST(TraceContextTest, WhatIsMalformedTellsNothing) {
  const std::string zeros_trace(32, '0'), zeros_span(16, '0');
  for (const std::string& bad :
       {std::string(), std::string("00"), kParent.substr(0, kParent.size() - 1), kParent + "0",
        "ff" + kParent.substr(2), "0x" + kParent.substr(2), "00-" + zeros_trace + "-" + kSpan + "-01",
        std::string("00-") + kTrace + "-" + zeros_span + "-01",
        "00-4BF92F3577B34DA6A3CE929D0E0E4736-" + std::string(kSpan) + "-01", " " + kParent, kParent + " ",
        std::string("00_") + kTrace + "-" + kSpan + "-01",
        std::string("00-") + kTrace + "-" + kSpan + "-0g"}) {
    EXPECT_FALSE(ReadTraceContext(bad, "a=1")) << '"' << bad << '"';
  }
}

TEST(TraceContextTest, ABadStateIsLeftOutAndTheRestHolds) {
  std::string many;
  for (int i = 0; i < 33; ++i) many += (i == 0 ? "k" : ",k") + std::to_string(i) + "=v";
  for (const std::string& state :
       {std::string(513, 'a'), std::string("a=\r\nb"), std::string("a=\xc3\xa9"), many}) {
    const TraceContext context = ReadTraceContext(kParent, state);
    ASSERT_TRUE(context);
    EXPECT_EQ(context.state, "");
  }
}

// Any byte of a good one made another: it is read as something well-formed, or not at all; never past its
// end.
TEST(TraceContextTest, DamagedOnesAreReadWholeOrNotAtAll) {
  std::mt19937 random(testing::TestSeed());
  constexpr char kLikely[] = "0123456789abcdefABCDEF-- \t\r\n\xff";
  size_t n_read = 0;
  for (int i = 0; i < 200'000; ++i) {
    std::string text = kParent;
    for (uint32_t n = 1 + random() % 3; n > 0; --n) {
      const size_t at = random() % text.size();
      const char c =
          random() % 4 == 0 ? static_cast<char>(random()) : kLikely[random() % (sizeof(kLikely) - 1)];
      switch (random() % 4) {
        case 0:
          text.insert(at, 1, c);
          break;
        case 1:
          text.erase(at, 1 + random() % 4);
          break;
        default:
          text[at] = c;
      }
      if (text.empty()) break;
    }
    const TraceContext context = ReadTraceContext(text, text);
    if (!context) continue;
    ++n_read;
    ASSERT_TRUE(context.span) << text;
    // All but the flags that we do not know, and what a later version may add.
    ASSERT_EQ(context.ToTraceParent().substr(3, 49), text.substr(3, 49)) << text;
    ASSERT_TRUE(ReadTraceContext(context.ToTraceParent(), ""));
  }
  EXPECT_GT(n_read, 1000u);
}

TEST(TraceContextTest, DrawnIdsDiffer) {
  std::set<std::string> drawn;
  for (int i = 0; i < 1000; ++i) {
    drawn.insert(TraceId::Draw().ToHex());
    drawn.insert(SpanId::Draw().ToHex());
  }
  EXPECT_EQ(drawn.size(), 2000u);
  EXPECT_EQ(TraceId::FromHex(kTrace)->ToHex(), kTrace);
  EXPECT_FALSE(TraceId::FromHex(kSpan));
}

}  // namespace
}  // namespace coterie
