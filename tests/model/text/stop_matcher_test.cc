#include "model/text/stop_matcher.h"

#include <random>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace coterie {
namespace {

using ::testing::HasSubstr;

// What must be delivered, by trying every end: the first at which a stop string ends, the longest of those.
struct Expected {
  std::string text;
  int stop_index = -1;
};
Expected BruteForce(const std::vector<std::string>& stops, const std::string& text) {
  for (size_t end = 1; end <= text.size(); ++end) {
    int best = -1;
    for (size_t i = 0; i < stops.size(); ++i) {
      const bool ends_here =
          end >= stops[i].size() && text.compare(end - stops[i].size(), stops[i].size(), stops[i]) == 0;
      if (ends_here && (best < 0 || stops[i].size() > stops[static_cast<size_t>(best)].size()))
        best = static_cast<int>(i);
    }
    if (best >= 0) return {text.substr(0, end - stops[static_cast<size_t>(best)].size()), best};
  }
  return {text, -1};
}

size_t LongestSuffixThatBeginsAStop(const std::vector<std::string>& stops, const std::string& text) {
  size_t longest = 0;
  for (const std::string& stop : stops) {
    for (size_t n = 1; n < stop.size() && n <= text.size(); ++n) {
      if (text.compare(text.size() - n, n, stop, 0, n) == 0) longest = std::max(longest, n);
    }
  }
  return longest;
}

TEST(StopMatcherTest, DeliversTheSameTextHoweverItIsCutAndHoldsBackNoMoreThanItMust) {
  std::mt19937 random(11);
  for (int round = 0; round < 5000; ++round) {
    const auto random_text = [&](size_t max) {
      std::string s(1 + random() % max, 'a');
      for (char& c : s) c = static_cast<char>('a' + random() % 2);
      return s;
    };
    std::vector<std::string> stops(1 + random() % 3);
    for (std::string& stop : stops) stop = random_text(5);
    const std::string text = random_text(12);
    const Expected expected = BruteForce(stops, text);

    StopMatcher matcher(StopStrings::Create(stops).value());
    std::string delivered;
    size_t seen = 0;
    while (seen < text.size() && !matcher.stopped()) {
      const size_t n_bytes = 1 + random() % 4;
      delivered += matcher.Append(text.substr(seen, n_bytes));
      seen = std::min(text.size(), seen + n_bytes);
      if (matcher.stopped()) break;
      const std::string so_far = text.substr(0, seen);
      ASSERT_EQ(so_far.size() - delivered.size(), LongestSuffixThatBeginsAStop(stops, so_far)) << text;
    }
    delivered += matcher.Flush();
    ASSERT_EQ(delivered, expected.text) << text;
    ASSERT_EQ(matcher.stopped(), expected.stop_index >= 0);
    if (matcher.stopped()) {
      ASSERT_EQ(stops[static_cast<size_t>(matcher.stop_index())],
                stops[static_cast<size_t>(expected.stop_index)]);
    }
  }
}

TEST(StopMatcherTest, NothingFollowsAStop) {
  StopMatcher matcher(StopStrings::Create({"END"}).value());
  EXPECT_EQ(matcher.Append("a E"), "a ");
  EXPECT_EQ(matcher.Append("ND b"), "");
  EXPECT_TRUE(matcher.stopped());
  EXPECT_EQ(matcher.Append("more"), "");
  EXPECT_EQ(matcher.Flush(), "");
}

TEST(StopMatcherTest, WithoutStopStringsTextPassesAtOnce) {
  StopMatcher matcher(StopStrings::Create({}).value());
  EXPECT_EQ(matcher.Append("abc"), "abc");
}

TEST(StopMatcherTest, RefusesEmptyLongBrokenOrTooManyStrings) {
  EXPECT_THAT(StopStrings::Create({"a", ""}).status().message(), HasSubstr("stop string 1 has 0 bytes"));
  EXPECT_THAT(StopStrings::Create({std::string(2000, 'x')}).status().message(), HasSubstr("2000 bytes"));
  EXPECT_THAT(StopStrings::Create({"\xC3"}).status().message(), HasSubstr("not UTF-8"));
  EXPECT_THAT(StopStrings::Create(std::vector<std::string>(65, "x")).status().message(),
              HasSubstr("65 stop strings"));
}

}  // namespace
}  // namespace coterie
