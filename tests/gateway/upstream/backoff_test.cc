#include "gateway/upstream/backoff.h"

#include "gtest/gtest.h"

namespace coterie::gateway::testing {
namespace {

TEST(BackoffTest, WaitsTwiceAsLongEachTimeUpToABoundAndBeginsAgainAfterASuccess) {
  Backoff backoff(absl::Milliseconds(50), absl::Milliseconds(300));
  for (int round = 0; round < 2; ++round) {
    for (const int ms : {50, 100, 200, 300, 300}) EXPECT_EQ(backoff.Next(), absl::Milliseconds(ms)) << round;
    backoff.Reset();
  }
}

}  // namespace
}  // namespace coterie::gateway::testing
