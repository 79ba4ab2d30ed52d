#include "gateway/runtime/timer_queue.h"

#include <atomic>
#include <memory>
#include <mutex>
#include <vector>

#include "common/clock.h"
#include "gateway/runtime/work_pool.h"
#include "tests/gateway/gateway_test_base.h"

namespace coterie::gateway::testing {
namespace {

TEST(TimerQueueTest, RunsInTheOrderOfTheirTimes) {
  TimerQueue timers;
  std::mutex mutex;
  std::vector<int> order;
  const auto note = [&](int i) {
    return [&, i] {
      const std::lock_guard<std::mutex> lock(mutex);
      order.push_back(i);
    };
  };
  const MonotonicTime now = MonotonicNow();
  timers.At(now + absl::Milliseconds(60), note(3));
  timers.At(now + absl::Milliseconds(20), note(1));
  timers.At(now + absl::Milliseconds(40), note(2));
  ASSERT_TRUE(Eventually([&] {
    const std::lock_guard<std::mutex> lock(mutex);
    return order.size() == 3;
  }));
  EXPECT_EQ(order, (std::vector<int>{1, 2, 3}));
}

TEST(TimerQueueTest, WhatIsCancelledDoesNotRun) {
  TimerQueue timers;
  std::atomic<int> runs = 0;
  const TimerQueue::Id id = timers.After(absl::Milliseconds(30), [&] { ++runs; });
  timers.After(absl::Milliseconds(60), [&] { ++runs; });
  timers.Cancel(id);
  ASSERT_TRUE(Eventually([&] { return runs == 1; }));
  absl::SleepFor(absl::Milliseconds(20));
  EXPECT_EQ(runs, 1);
}

TEST(TimerQueueTest, WhatNeverRanIsDestroyedWithTheQueueAndMayStillCallIt) {
  auto timers = std::make_unique<TimerQueue>();
  struct Caller {
    TimerQueue* timers;
    ~Caller() {
      timers->After(absl::ZeroDuration(), [] {});
    }
  };
  auto caller = std::make_shared<Caller>(Caller{timers.get()});
  const std::weak_ptr<Caller> weak = caller;
  timers->After(absl::Hours(1), [caller = std::move(caller)] {});
  timers.reset();
  EXPECT_TRUE(weak.expired());
}

TEST(WorkPoolTest, RefusesWhatDoesNotFitAndFinishesTheRest) {
  std::atomic<int> begun = 0;
  std::atomic<int> done = 0;
  std::atomic<bool> go = false;
  Status refused;
  {
    WorkPool pool("test", 1, 2);
    const auto job = [&] {
      ++begun;
      while (!go) absl::SleepFor(absl::Milliseconds(1));
      ++done;
    };
    EXPECT_TRUE(pool.Submit(job).ok());
    EXPECT_TRUE(Eventually([&] { return begun == 1; }));
    EXPECT_TRUE(pool.Submit(job).ok());
    EXPECT_TRUE(pool.Submit(job).ok());
    refused = pool.Submit(job);
    go = true;
  }
  EXPECT_EQ(refused.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(refused.message(), "the gateway's test queue is full (2 jobs)");
  EXPECT_EQ(done, 3);
}

}  // namespace
}  // namespace coterie::gateway::testing
