#include "net/reset_watch.h"

#include "gtest/gtest.h"

namespace coterie::net {
namespace {

constexpr MonotonicTime kZero = MonotonicTime::Epoch();

TEST(ResetWatchTest, WhoGivesUpAllThatItHasOpenIsNoOffender) {
  ResetWatch watch({.burst = 1000, .per_second = 100});
  EXPECT_FALSE(watch.Exceeds(7, 1'000'000, kZero));  // of the hours before
  EXPECT_FALSE(watch.Exceeds(7, 1'001'000, kZero + absl::Milliseconds(100)));
  EXPECT_TRUE(watch.Exceeds(7, 1'001'100, kZero + absl::Milliseconds(200)));
}

TEST(ResetWatchTest, ASteadyRateWithinTheLimitGoesOnForEver) {
  ResetWatch watch({.burst = 1000, .per_second = 100});
  int64_t n = 0;
  MonotonicTime now = kZero;
  for (int i = 0; i < 10'000; ++i) EXPECT_FALSE(watch.Exceeds(7, n += 10, now += absl::Milliseconds(100)));
  // Twice the limit uses the burst up.
  int n_seconds = 0;
  while (!watch.Exceeds(7, n += 200, now += absl::Seconds(1))) ++n_seconds;
  EXPECT_NEAR(n_seconds, 10, 1);
}

TEST(ResetWatchTest, ConnectionsHaveAccountsOfTheirOwnAndAreForgotten) {
  ResetWatch watch({.burst = 10, .per_second = 1});
  EXPECT_FALSE(watch.Exceeds(1, 0, kZero));
  EXPECT_FALSE(watch.Exceeds(2, 0, kZero));
  watch.ForgetOthers();
  EXPECT_FALSE(watch.Exceeds(1, 5, kZero));
  watch.ForgetOthers();  // 2 was not asked for
  EXPECT_TRUE(watch.Exceeds(1, 50, kZero));
  EXPECT_FALSE(watch.Exceeds(2, 50, kZero));  // as a new one
}

}  // namespace
}  // namespace coterie::net
