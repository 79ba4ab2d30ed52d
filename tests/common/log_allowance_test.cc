#include "common/log_allowance.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace coterie {
namespace {

using ::testing::Eq;
using ::testing::Optional;

const MonotonicTime kNow = MonotonicTime::Epoch() + absl::Seconds(1'000'000);

TEST(LogAllowanceTest, OneLineAnIntervalSaysHowManyWereLeftOut) {
  LogAllowance allowance(absl::Minutes(1));
  EXPECT_THAT(allowance.Note(kNow), Optional(0u));
  for (int i = 1; i <= 1000; ++i) {
    EXPECT_THAT(allowance.Note(kNow + i * absl::Milliseconds(59)), Eq(std::nullopt));
  }
  EXPECT_THAT(allowance.Note(kNow + absl::Minutes(1)), Optional(1000u));
  EXPECT_THAT(allowance.Note(kNow + absl::Seconds(61)), Eq(std::nullopt));
  EXPECT_THAT(allowance.Note(kNow + absl::Minutes(3)), Optional(1u));
}

TEST(LogAllowanceTest, RareFaultsAreAllWritten) {
  LogAllowance allowance(absl::Minutes(1));
  for (int i = 0; i < 10; ++i) EXPECT_THAT(allowance.Note(kNow + i * absl::Minutes(1)), Optional(0u));
}

}  // namespace
}  // namespace coterie
