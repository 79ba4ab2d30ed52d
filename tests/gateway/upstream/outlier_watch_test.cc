#include "gateway/upstream/outlier_watch.h"

#include "common/clock.h"
#include "gtest/gtest.h"

namespace coterie::gateway::testing {
namespace {

const MonotonicTime kFirstFailure = MonotonicTime::Epoch() + absl::Seconds(1'000'000);
const OutlierWatch::Options kShortEjections = {
    .first = absl::Seconds(5), .longest = absl::Seconds(30), .memory = absl::Minutes(1)};

TEST(OutlierWatchTest, OneFailureEjectsNobodyTheSecondDoes) {
  OutlierWatch watch(kShortEjections);
  EXPECT_FALSE(watch.Fail(kFirstFailure));
  EXPECT_EQ(watch.ejected_for(kFirstFailure), absl::ZeroDuration());
  EXPECT_TRUE(watch.Fail(kFirstFailure + absl::Seconds(2)));
  EXPECT_EQ(watch.ejected_for(kFirstFailure + absl::Seconds(3)), absl::Seconds(4));
  EXPECT_EQ(watch.ejected_for(kFirstFailure + absl::Seconds(7)), absl::ZeroDuration());
  EXPECT_EQ(watch.ejections(), 1u);
}

TEST(OutlierWatchTest, FailuresFarApartAreForgotten) {
  OutlierWatch watch(kShortEjections);
  for (int i = 0; i < 20; ++i) EXPECT_FALSE(watch.Fail(kFirstFailure + i * absl::Minutes(1)));
  EXPECT_EQ(watch.ejections(), 0u);
}

TEST(OutlierWatchTest, WhileItFailsItStaysOutAndQuietLetsItIn) {
  OutlierWatch watch(kShortEjections);
  MonotonicTime now = kFirstFailure;
  watch.Fail(now);
  EXPECT_TRUE(watch.Fail(now));
  for (int i = 0; i < 20; ++i) {
    now += absl::Seconds(2);
    EXPECT_FALSE(watch.Fail(now));
    EXPECT_EQ(watch.ejected_for(now), absl::Seconds(5));
  }
  EXPECT_EQ(watch.ejected_for(now + absl::Seconds(5)), absl::ZeroDuration());
  EXPECT_EQ(watch.ejections(), 1u);
}

TEST(OutlierWatchTest, EachEjectionLastsTwiceAsLongUpToABoundAndQuietHalvesThem) {
  OutlierWatch watch(kShortEjections);
  MonotonicTime now = kFirstFailure;
  watch.Fail(now);
  for (const int seconds : {5, 10, 20, 30, 30}) {
    ASSERT_TRUE(watch.Fail(now));
    EXPECT_EQ(watch.ejected_for(now), absl::Seconds(seconds));
    now += absl::Seconds(seconds);
  }
  // Ten quiet minutes wipe the slate.
  now += absl::Minutes(10);
  EXPECT_FALSE(watch.Fail(now));
  EXPECT_TRUE(watch.Fail(now));
  EXPECT_EQ(watch.ejected_for(now), absl::Seconds(5));
}

TEST(OutlierWatchTest, ZeroNeverEjects) {
  OutlierWatch watch({.first = absl::ZeroDuration()});
  for (int i = 0; i < 10; ++i) EXPECT_FALSE(watch.Fail(kFirstFailure));
  EXPECT_EQ(watch.ejected_for(kFirstFailure), absl::ZeroDuration());
}

}  // namespace
}  // namespace coterie::gateway::testing
