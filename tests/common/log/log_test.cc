#include "common/log/log.h"

#include <limits>
#include <sstream>

#include "common/log/named.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "spdlog/spdlog.h"

namespace coterie {
namespace {

// What `say` writes to standard error of a process of its own with logs in that format.
std::string Said(LogFormat format, void (*say)()) {
  ::testing::internal::CaptureStderr();
  const auto before = spdlog::default_logger();
  StartLog("tested", format);
  say();
  spdlog::default_logger()->flush();
  spdlog::drop("tested");
  spdlog::set_default_logger(before);
  return ::testing::internal::GetCapturedStderr();
}

std::vector<nlohmann::json> Lines(void (*say)()) {
  std::vector<nlohmann::json> lines;
  std::istringstream text(Said(LogFormat::kJson, say));
  for (std::string line; std::getline(text, line);) {
    lines.push_back(nlohmann::json::parse(line, nullptr, /*allow_exceptions=*/false));
    EXPECT_TRUE(lines.back().is_object()) << line;
  }
  return lines;
}

void SayWorkerLost() {
  const std::string address = "10.0.0.1:7601";
  spdlog::warn("worker {} lost {} times: {}", Named("address", address), Named("times", size_t{3}),
               Named("why", "no heartbeats"));
}

TEST(LogTest, AsTextALineIsAsWithoutNames) {
  EXPECT_THAT(Said(LogFormat::kText, SayWorkerLost),
              ::testing::HasSubstr("worker 10.0.0.1:7601 lost 3 times: no heartbeats\n"));
}

TEST(LogTest, AsJsonEveryNamedValueIsAField) {
  const auto lines = Lines(SayWorkerLost);
  ASSERT_EQ(lines.size(), 1u);
  EXPECT_EQ(lines[0]["message"], "worker 10.0.0.1:7601 lost 3 times: no heartbeats");
  EXPECT_EQ(lines[0]["level"], "warning");
  EXPECT_EQ(lines[0]["program"], "tested");
  EXPECT_EQ(lines[0]["address"], "10.0.0.1:7601");
  EXPECT_EQ(lines[0]["times"], 3);
  EXPECT_EQ(lines[0]["why"], "no heartbeats");
  EXPECT_FALSE(lines[0].contains("trace_id"));
  EXPECT_THAT(lines[0]["time"].get<std::string>(),
              ::testing::MatchesRegex("[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\\.[0-9]{6}Z"));
}

TEST(LogTest, LinesOfARequestCarryItsIds) {
  const auto lines = Lines([] {
    const std::string id = "my request";
    const LogTrace outer(id);
    spdlog::info("one");
    {
      const std::string other = "another";
      const LogTrace inner(other, *SpanId::FromHex("00f067aa0ba902b7"));
      spdlog::info("two");
    }
    spdlog::info("three");
  });
  ASSERT_EQ(lines.size(), 3u);
  EXPECT_EQ(lines[0]["trace_id"], "my request");
  EXPECT_FALSE(lines[0].contains("span_id"));
  EXPECT_EQ(lines[1]["trace_id"], "another");
  EXPECT_EQ(lines[1]["span_id"], "00f067aa0ba902b7");
  EXPECT_EQ(lines[2]["trace_id"], "my request");
}

TEST(LogTest, WhateverAValueHoldsTheLineIsJson) {
  const auto lines = Lines([] {
    spdlog::info("{}", Named("words", std::string("a\"b\\\n\x01\xff")));
    spdlog::debug("{}", Named("unsaid", 1));  // below the level: nothing of it stays for the next line
    spdlog::info("{} {} {}", Named("size", std::numeric_limits<double>::infinity()), Named("on", true),
                 Named("on", false));
  });
  ASSERT_EQ(lines.size(), 2u);
  EXPECT_EQ(lines[0]["words"], "a\"b\\\n\x01\xEF\xBF\xBD");
  EXPECT_FALSE(lines[1].contains("unsaid"));
  EXPECT_EQ(lines[1]["size"], "inf");
  EXPECT_EQ(lines[1]["on"], true);
}

TEST(LogTest, TheLastWordIsALineToo) {
  constexpr auto kSay = [] { LogFatal(absl::NotFoundError("no such model")); };
  EXPECT_EQ(Said(LogFormat::kText, kSay), "coterie-tested: no such model\n");
  const auto lines = Lines(kSay);
  ASSERT_EQ(lines.size(), 1u);
  EXPECT_EQ(lines[0]["level"], "critical");
  EXPECT_EQ(lines[0]["why"], "no such model");
}

}  // namespace
}  // namespace coterie
