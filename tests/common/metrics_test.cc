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
  for (const char* expert : {"a", "b", "c", "d", "a"}) counters.Get(expert).Increment();
  const std::string page = registry.Text();
  EXPECT_THAT(page, HasSubstr("coterie_x_total{expert=\"a\"} 2"));
  EXPECT_THAT(page, HasSubstr("coterie_x_total{expert=\"other\"} 2"));
  EXPECT_THAT(page, Not(HasSubstr("expert=\"c\"")));
}

}  // namespace
}  // namespace coterie
