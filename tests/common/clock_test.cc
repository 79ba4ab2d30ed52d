#include "common/clock.h"

#include <type_traits>

#include "common/mutex.h"
#include "gtest/gtest.h"

namespace coterie {
namespace {

template <typename A, typename B>
concept Subtracts = requires(A a, B b) {
  a - b;
};
template <typename A, typename B>
concept Compares = requires(A a, B b) {
  a < b;
};

TEST(MonotonicTimeTest, DoesNotMixWithTheWallClock) {
  static_assert(Subtracts<MonotonicTime, MonotonicTime> && Compares<MonotonicTime, MonotonicTime>);
  static_assert(!Subtracts<MonotonicTime, absl::Time> && !Subtracts<absl::Time, MonotonicTime>);
  static_assert(!Compares<MonotonicTime, absl::Time> && !Compares<absl::Time, MonotonicTime>);
  static_assert(!std::is_convertible_v<absl::Time, MonotonicTime> &&
                !std::is_convertible_v<MonotonicTime, absl::Time> &&
                !std::is_convertible_v<absl::Duration, MonotonicTime>);
}

TEST(MonotonicTimeTest, CountsInDurations) {
  const MonotonicTime time = MonotonicTime::Epoch() + absl::Seconds(5);
  EXPECT_EQ(time - MonotonicTime::Epoch(), absl::Seconds(5));
  EXPECT_EQ(time - absl::Seconds(5), MonotonicTime::Epoch());
  EXPECT_LT(time, time + absl::Nanoseconds(1));
  EXPECT_GT(time, MonotonicTime::Epoch());
}

TEST(MonotonicTimeTest, SaturatesAtBothEnds) {
  const MonotonicTime now = MonotonicNow();
  EXPECT_EQ(MonotonicTime(), MonotonicTime::InfinitePast());
  EXPECT_LT(MonotonicTime::InfinitePast(), now);
  EXPECT_LT(now, MonotonicTime::InfiniteFuture());
  EXPECT_EQ(now - MonotonicTime::InfinitePast(), absl::InfiniteDuration());
  EXPECT_EQ(MonotonicTime::InfiniteFuture() - now, absl::InfiniteDuration());
  EXPECT_EQ(now + absl::InfiniteDuration(), MonotonicTime::InfiniteFuture());
  EXPECT_EQ(MonotonicTime::InfiniteFuture() - absl::Hours(1), MonotonicTime::InfiniteFuture());
}

TEST(MonotonicTimeTest, IsTheSteadyClockOfTheStandardLibrary) {
  const auto before = std::chrono::steady_clock::now();
  const auto now = ToSteadyClock(MonotonicNow());
  EXPECT_LE(before, now);
  EXPECT_LE(now, std::chrono::steady_clock::now());
  EXPECT_GT(ToSteadyClock(MonotonicTime::InfiniteFuture()), now);
  EXPECT_LT(ToSteadyClock(MonotonicTime::InfinitePast()), now);
}

TEST(CondVarTest, WaitsUntilAPointAndNoLonger) {
  Mutex mutex;
  CondVar changed;
  MutexLock lock(&mutex);
  const MonotonicTime until = MonotonicNow() + absl::Milliseconds(20);
  while (changed.WaitUntil(&mutex, until)) {
  }
  EXPECT_GE(MonotonicNow(), until);
  // A point that has passed, however long ago, is no wait.
  while (changed.WaitUntil(&mutex, MonotonicTime::InfinitePast())) {
  }
}

}  // namespace
}  // namespace coterie
