#include "gateway/access/queue_forecast.h"

#include "gtest/gtest.h"

namespace coterie::gateway::testing {
namespace {

constexpr MonotonicTime kZero = MonotonicTime::Epoch();

TEST(QueueForecastTest, KnowsNothingBeforeItHasSeenAFew) {
  QueueForecast forecast;
  MonotonicTime now = kZero;
  for (int i = 0; i < 3; ++i) forecast.Began(kZero, 1, now += absl::Seconds(1));
  EXPECT_EQ(forecast.Wait(100), absl::ZeroDuration());
  EXPECT_TRUE(forecast.CanEndWithin(absl::Milliseconds(1), 1000));
}

TEST(QueueForecastTest, WhileManyWaitTheTimeBetweenTwoBeginningsIsTheRate) {
  QueueForecast forecast;
  MonotonicTime now = kZero;
  for (int i = 0; i < 100; ++i) forecast.Began(kZero, 1, now += absl::Milliseconds(50));
  for (int i = 0; i < 100; ++i) forecast.Ended(absl::Seconds(1));
  EXPECT_NEAR(absl::ToDoubleSeconds(forecast.Wait(20)), 1.0, 0.05);
  // 100 ahead are 5 s, with the margin 6.25, and a second to run.
  EXPECT_FALSE(forecast.CanEndWithin(absl::Seconds(7), 100));
  EXPECT_TRUE(forecast.CanEndWithin(absl::Seconds(8), 100));
  EXPECT_TRUE(forecast.CanEndWithin(absl::InfiniteDuration(), 1e9));
}

TEST(QueueForecastTest, RequestsThatComeSeldomDoNotLookLikeASlowQueue) {
  QueueForecast forecast;
  MonotonicTime now = kZero;
  for (int i = 0; i < 100; ++i) {
    now += absl::Minutes(1);
    forecast.Began(now - absl::Milliseconds(10), 1, now);
  }
  EXPECT_NEAR(absl::ToDoubleSeconds(forecast.Wait(10)), 0.1, 0.01);
}

TEST(QueueForecastTest, ForgetsATimeInWhichNothingBegan) {
  QueueForecast forecast;
  MonotonicTime now = kZero;
  for (int i = 0; i < 20; ++i) forecast.Began(kZero, 1, now += absl::Milliseconds(10));
  forecast.Began(kZero, 1, now += absl::Minutes(10));  // no workers meanwhile
  EXPECT_LT(forecast.Wait(1), absl::Milliseconds(500));
  for (int i = 0; i < 200; ++i) forecast.Began(kZero, 1, now += absl::Milliseconds(10));
  EXPECT_NEAR(absl::ToDoubleSeconds(forecast.Wait(100)), 1.0, 0.1);
}

TEST(QueueForecastTest, LongRunsOfOthersTakeAtMostHalfOfTheTimeLeft) {
  QueueForecast forecast;
  MonotonicTime now = kZero;
  for (int i = 0; i < 20; ++i) forecast.Began(kZero, 1, now += absl::Milliseconds(10));
  for (int i = 0; i < 100; ++i) forecast.Ended(absl::Minutes(5));
  EXPECT_TRUE(forecast.CanEndWithin(absl::Seconds(2), 20));    // 0.25 s of wait
  EXPECT_FALSE(forecast.CanEndWithin(absl::Seconds(2), 100));  // 1.25 s
}

}  // namespace
}  // namespace coterie::gateway::testing
