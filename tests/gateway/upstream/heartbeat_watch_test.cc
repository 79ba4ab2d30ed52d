#include "gateway/upstream/heartbeat_watch.h"

#include "common/clock.h"
#include "gtest/gtest.h"

namespace coterie::gateway::testing {
namespace {

using Verdict = HeartbeatWatch::Verdict;

const MonotonicTime kBegin = MonotonicTime::Epoch() + absl::Seconds(1'000'000);

// A worker that is to be heard every 100 ms and is lost after a second; time goes as the test says.
class HeartbeatWatchTest : public ::testing::Test {
 protected:
  HeartbeatWatchTest() { watch_.Begin(now_); }

  // One tick, in time.
  Verdict Tick() {
    now_ += absl::Milliseconds(100);
    return watch_.Tick(now_);
  }
  void Stall(absl::Duration time) { now_ += time; }

  MonotonicTime now_ = kBegin;
  HeartbeatWatch watch_{{.interval = absl::Milliseconds(100), .silence_timeout = absl::Seconds(1)}};
};

TEST_F(HeartbeatWatchTest, AWorkerThatKeepsItsBeatIsHeardForEver) {
  for (int i = 0; i < 100; ++i) {
    EXPECT_EQ(Tick(), Verdict::kHeard);
    EXPECT_FALSE(watch_.Hear(now_));
    EXPECT_EQ(watch_.alive_until(), now_ + absl::Milliseconds(500));
  }
}

TEST_F(HeartbeatWatchTest, LostHeartbeatsMakeItSuspectOnceAndThenLost) {
  for (int i = 1; i <= 5; ++i) EXPECT_EQ(Tick(), Verdict::kHeard) << i;
  EXPECT_EQ(Tick(), Verdict::kSuspect);  // 600 ms
  for (int i = 7; i <= 10; ++i) EXPECT_EQ(Tick(), Verdict::kHeard) << i;
  EXPECT_EQ(watch_.alive_until(), kBegin + absl::Milliseconds(500));  // gets nothing new all the while
  EXPECT_EQ(Tick(), Verdict::kLost);
  EXPECT_EQ(watch_.silence(now_), absl::Milliseconds(1100));
}

TEST_F(HeartbeatWatchTest, WhoCannotWriteDoesNotBlameTheWorkerForTwiceTheTime) {
  const MonotonicTime unwritten_since = kBegin + absl::Milliseconds(100);
  const auto tick = [&] {
    now_ += absl::Milliseconds(100);
    return watch_.Tick(now_, unwritten_since);
  };
  for (int i = 1; i <= 19; ++i) EXPECT_EQ(tick(), Verdict::kHeard) << i;
  EXPECT_FALSE(watch_.Hear(now_));  // no failure of the worker's
  // The same again, and nothing is ever heard.
  for (int i = 1; i <= 20; ++i) EXPECT_EQ(tick(), Verdict::kHeard) << i;
  EXPECT_EQ(tick(), Verdict::kLost);
}

TEST_F(HeartbeatWatchTest, EverySilenceIsSuspectAnew) {
  for (int silence = 0; silence < 3; ++silence) {
    for (int i = 1; i <= 5; ++i) EXPECT_EQ(Tick(), Verdict::kHeard);
    EXPECT_EQ(Tick(), Verdict::kSuspect) << silence;
    watch_.Hear(now_);
  }
}

TEST_F(HeartbeatWatchTest, AWorkerThatSpeaksAgainAfterAThirdOfTheTimeHasFailed) {
  for (int i = 0; i < 3; ++i) Tick();
  EXPECT_FALSE(watch_.Hear(now_));  // 300 ms
  for (int i = 0; i < 4; ++i) Tick();
  EXPECT_TRUE(watch_.Hear(now_));  // 400 ms
  EXPECT_FALSE(watch_.Hear(now_));
}

TEST_F(HeartbeatWatchTest, TwoMissedBeatsAreForgivenHoweverShortTheTimeout) {
  HeartbeatWatch hasty({.interval = absl::Milliseconds(100), .silence_timeout = absl::Milliseconds(240)});
  hasty.Begin(kBegin);
  EXPECT_EQ(hasty.alive_until(), kBegin + absl::Milliseconds(200));
  EXPECT_EQ(hasty.Tick(kBegin + absl::Milliseconds(100)), Verdict::kHeard);
  EXPECT_EQ(hasty.Tick(kBegin + absl::Milliseconds(200)), Verdict::kHeard);
  EXPECT_FALSE(hasty.Hear(kBegin + absl::Milliseconds(200)));
}

// The gateway was stopped, or swapped out: what the worker said lies in its sockets.
TEST_F(HeartbeatWatchTest, AGatewayThatStoodStillBlamesNoWorkerForIt) {
  Stall(absl::Seconds(30));
  EXPECT_EQ(Tick(), Verdict::kHeard);
  EXPECT_FALSE(watch_.Hear(now_));  // and its silence was no failure of it
  EXPECT_EQ(Tick(), Verdict::kHeard);
  EXPECT_EQ(watch_.alive_until(), now_ + absl::Milliseconds(400));
}

TEST_F(HeartbeatWatchTest, AMessageReadBeforeTheLateTickIsNoFailureEither) {
  Stall(absl::Seconds(30));
  EXPECT_FALSE(watch_.Hear(now_));
  EXPECT_EQ(Tick(), Verdict::kHeard);
}

TEST_F(HeartbeatWatchTest, AWorkerThatStaysSilentAfterTheGatewayStoodStillIsLostAtTheNextTick) {
  Stall(absl::Seconds(30));
  EXPECT_EQ(Tick(), Verdict::kHeard);
  EXPECT_EQ(Tick(), Verdict::kLost);
}

TEST_F(HeartbeatWatchTest, TicksThatAreAlwaysLatePutTheVerdictOffOnceOnly) {
  Stall(absl::Milliseconds(900));
  EXPECT_EQ(Tick(), Verdict::kHeard);
  Stall(absl::Milliseconds(900));
  EXPECT_EQ(Tick(), Verdict::kLost);
}

TEST_F(HeartbeatWatchTest, AnAttemptToConnectMayTakeAsLongAsASilence) {
  for (int i = 0; i < 11; ++i) Tick();
  watch_.Begin(now_);
  for (int i = 1; i <= 5; ++i) EXPECT_EQ(Tick(), Verdict::kHeard) << i;
  EXPECT_EQ(Tick(), Verdict::kSuspect);
}

}  // namespace
}  // namespace coterie::gateway::testing
