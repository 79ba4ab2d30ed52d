#include "gateway/answer/fallback_log.h"

#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "tests/testing/captured_log.h"

namespace coterie::gateway::testing {
namespace {

const MonotonicTime kNow = MonotonicTime::Epoch() + absl::Seconds(1'000'000);

void Note(FallbackLog* log, const std::string& expert, MonotonicTime now) {
  log->Note(std::vector<std::string>{expert}, absl::DataLossError(expert + " is damaged"), "the base", now);
}

TEST(FallbackLogTest, EachExpertIsALineAMinuteAndTheRestIsCounted) {
  CapturedLog lines;
  FallbackLog log;
  for (int i = 0; i < 100; ++i) Note(&log, "algebra", kNow + i * absl::Milliseconds(500));
  // A fault of one does not hide another's.
  Note(&log, "botany", kNow + absl::Seconds(50));
  EXPECT_EQ(lines.Count("algebra is damaged; the base"), 1u);
  EXPECT_EQ(lines.Count("botany is damaged; the base (99 more fallbacks"), 1u);
  Note(&log, "algebra", kNow + absl::Seconds(59));
  Note(&log, "algebra", kNow + absl::Seconds(60));
  EXPECT_EQ(lines.Count("algebra is damaged; the base (1 more fallbacks"), 1u);
  EXPECT_EQ(lines.Count("damaged"), 3u);
}

TEST(FallbackLogTest, AStoreThatIsAwayIsAFewLinesHoweverManyExpertsItHas) {
  CapturedLog lines;
  FallbackLog log;
  for (int i = 0; i < 10'000; ++i) Note(&log, "expert-" + std::to_string(i), kNow);
  EXPECT_EQ(lines.Count("damaged"), FallbackLog::kMaxLines);
  Note(&log, "expert-9999", kNow + FallbackLog::kInterval);
  EXPECT_EQ(lines.Count("expert-9999 is damaged; the base (9984 more fallbacks"), 1u);
}

}  // namespace
}  // namespace coterie::gateway::testing
