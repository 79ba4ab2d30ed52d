#include "common/metrics.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace coterie {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

TEST(MetricsTest, ShowsWhatWasCountedUnderItsNameAndLabels) {
  MetricsRegistry registry;
  registry.Counter("coterie_test_total", "What was tested.", {{"kind", "a"}}).Increment(3);
  registry.Counter("coterie_test_total", "What was tested.", {{"kind", "a"}}).Increment();
  registry.Histogram("coterie_test_seconds", "How long.", {0.1, 1.0}).Observe(0.5);
  const std::string page = registry.Text();
  EXPECT_THAT(page, HasSubstr("coterie_test_total{kind=\"a\"} 4"));
  EXPECT_THAT(page, HasSubstr("coterie_test_seconds_bucket{le=\"0.1\"} 0"));
  EXPECT_THAT(page, HasSubstr("coterie_test_seconds_count 1"));
}

TEST(MetricsTest, ValuesBeyondTheBoundShareOneSeries) {
  MetricsRegistry registry;
  BoundedCounters counters(&registry, "coterie_x_total", "X.", "expert", 2);
  for (const char* expert : {"a", "b", "c", "d", "a"}) counters.Increment(expert);
  const std::string page = registry.Text();
  EXPECT_THAT(page, HasSubstr("coterie_x_total{expert=\"a\"} 2"));
  EXPECT_THAT(page, HasSubstr("coterie_x_total{expert=\"other\"} 2"));
  EXPECT_THAT(page, Not(HasSubstr("expert=\"c\"")));
}

TEST(MetricsTest, TheMostSeenValuesHaveSeriesAndOthersNeverFall) {
  MetricsRegistry registry;
  BoundedCounters counters(&registry, "coterie_x_total", "X.", "expert", 2);
  for (const char* early : {"a", "b", "b", "b"}) counters.Increment(early);
  // The eleventh question is more than twice those of "a", and eight: the ten before stay where they were
  // counted.
  for (int i = 0; i < 10; ++i) counters.Increment("hot");
  EXPECT_THAT(registry.Text(), HasSubstr("coterie_x_total{expert=\"other\"} 10"));
  for (int i = 0; i < 5; ++i) counters.Increment("hot");
  counters.Increment("a");
  const std::string page = registry.Text();
  EXPECT_THAT(page, HasSubstr("coterie_x_total{expert=\"hot\"} 5"));
  EXPECT_THAT(page, HasSubstr("coterie_x_total{expert=\"b\"} 3"));
  EXPECT_THAT(page, HasSubstr("coterie_x_total{expert=\"other\"} 11"));
  EXPECT_THAT(page, Not(HasSubstr("expert=\"a\"")));
}

TEST(MetricsTest, ManyValuesTakeNoMoreRoomThanTheBound) {
  TopValues top(3);
  for (int round = 0; round < 40; ++round) top.See("steady");
  for (int i = 0; i < 100'000; ++i) {
    top.See(std::to_string(i));
    if (i % 50 == 0) {
      EXPECT_EQ(top.See("steady").label, "steady");
    }
    EXPECT_LE(top.n_seen(), 25u);
  }
  EXPECT_EQ(top.Named().size(), 3u);
}

}  // namespace
}  // namespace coterie
