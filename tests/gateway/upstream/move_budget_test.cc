#include "gateway/upstream/move_budget.h"

#include "common/clock.h"
#include "gtest/gtest.h"

namespace coterie::gateway::testing {
namespace {

const MonotonicTime kAccepted = MonotonicTime::Epoch() + absl::Seconds(1'000'000);

TEST(MoveBudgetTest, AnAnswerThatNeverGetsOnHasTheMovesItBeganWithAndNoMore) {
  MoveBudget budget(3, kAccepted);
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(budget.Take(kAccepted + absl::Hours(i), 0));
  EXPECT_FALSE(budget.Take(kAccepted + absl::Hours(100), 0));
}

TEST(MoveBudgetTest, AtOnePositionForLongIsGettingOnByNothing) {
  MoveBudget budget(3, kAccepted);
  EXPECT_TRUE(budget.Take(kAccepted, 500));  // the 500 tokens fill what was full
  EXPECT_TRUE(budget.Take(kAccepted + absl::Minutes(1), 500));
  EXPECT_TRUE(budget.Take(kAccepted + absl::Minutes(2), 500));
  EXPECT_FALSE(budget.Take(kAccepted + absl::Minutes(3), 500));
}

TEST(MoveBudgetTest, TokensEarnMovesBackForEver) {
  MoveBudget budget(3, kAccepted);
  for (uint32_t i = 1; i < 1000; ++i) {
    EXPECT_TRUE(budget.Take(kAccepted, i * MoveBudget::kTokensPerMove)) << i;
  }
}

TEST(MoveBudgetTest, SlowTokensEarnThemByTime) {
  MoveBudget budget(1, kAccepted);
  for (uint32_t i = 1; i < 100; ++i)
    EXPECT_TRUE(budget.Take(kAccepted + i * MoveBudget::kTimePerMove, i)) << i;
  // Quicker than that, one token at a time, it ends.
  MoveBudget quick(1, kAccepted);
  EXPECT_TRUE(quick.Take(kAccepted, 1));
  EXPECT_FALSE(quick.Take(kAccepted + absl::Milliseconds(10), 2));
}

TEST(MoveBudgetTest, NoMoreIsSavedThanItBeganWith) {
  MoveBudget budget(2, kAccepted);
  EXPECT_TRUE(budget.Take(kAccepted + absl::Hours(1), 100'000));
  EXPECT_TRUE(budget.Take(kAccepted + absl::Hours(1), 100'000));
  EXPECT_FALSE(budget.Take(kAccepted + absl::Hours(1), 100'000));
}

TEST(MoveBudgetTest, NoneIsNone) {
  MoveBudget budget(0, kAccepted);
  EXPECT_FALSE(budget.Take(kAccepted + absl::Hours(1), 100));
}

}  // namespace
}  // namespace coterie::gateway::testing
