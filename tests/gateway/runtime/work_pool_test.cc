#include "gateway/runtime/work_pool.h"

#include <string>

#include "absl/synchronization/notification.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace coterie::gateway {
namespace {

using ::testing::HasSubstr;
using Turn = WorkPool::Turn;

// The order in which `spare` and then `next` jobs run that wait for the same thread: s and n.
std::string OrderOf(int n_spare, int n_next) {
  std::string order;
  WorkPool pool("test", 1, 100);
  absl::Notification begun, go_on;
  EXPECT_TRUE(pool.Submit([&] {
                    begun.Notify();
                    go_on.WaitForNotification();
                  })
                  .ok());
  begun.WaitForNotification();
  for (int i = 0; i < n_spare; ++i) EXPECT_TRUE(pool.Submit([&] { order += 's'; }, Turn::kSpare).ok());
  for (int i = 0; i < n_next; ++i) EXPECT_TRUE(pool.Submit([&] { order += 'n'; }).ok());
  go_on.Notify();
  pool.Stop();
  return order;
}

TEST(WorkPoolTest, SpareJobsComeBehindOthersButComeInTheEnd) {
  EXPECT_EQ(OrderOf(3, 2), "nnsss");
  EXPECT_EQ(OrderOf(3, 16), "nnnnnnnsnnnnnnnsnns");
  EXPECT_EQ(OrderOf(0, 9), "nnnnnnnnn");
}

TEST(WorkPoolTest, AFullQueueOfSpareJobsKeepsNoOtherOut) {
  WorkPool pool("test", 1, 2);
  absl::Notification begun, go_on;
  EXPECT_TRUE(pool.Submit([&] {
                    begun.Notify();
                    go_on.WaitForNotification();
                  })
                  .ok());
  begun.WaitForNotification();
  for (int i = 0; i < 2; ++i) EXPECT_TRUE(pool.Submit([] {}, Turn::kSpare).ok());
  const Status full = pool.Submit([] {}, Turn::kSpare);
  EXPECT_TRUE(absl::IsResourceExhausted(full));
  EXPECT_THAT(std::string(full.message()), HasSubstr("test queue is full (2 jobs)"));
  EXPECT_TRUE(pool.Submit([] {}).ok());
  go_on.Notify();
}

}  // namespace
}  // namespace coterie::gateway
