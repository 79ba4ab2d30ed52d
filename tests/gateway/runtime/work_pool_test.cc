#include "gateway/runtime/work_pool.h"

#include <string>

#include "absl/synchronization/notification.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace coterie::gateway {
namespace {

using ::testing::HasSubstr;
using Turn = WorkPool::Turn;

// The only thread of a pool, for as long as it is not let go of; the pool is stopped before this goes.
class HeldThread {
 public:
  explicit HeldThread(WorkPool* pool) {
    const Status status = pool->Submit([this] {
      begun_.Notify();
      go_on_.WaitForNotification();
    });
    EXPECT_TRUE(status.ok()) << status;
    begun_.WaitForNotification();
  }
  void LetGo() { go_on_.Notify(); }

 private:
  absl::Notification begun_, go_on_;
};

// The order in which `spare` and then `next` jobs run that wait for the same thread: s and n.
std::string OrderOf(int n_spare, int n_next) {
  std::string order;
  WorkPool pool("test", 1, 100);
  HeldThread held(&pool);
  for (int i = 0; i < n_spare; ++i) EXPECT_TRUE(pool.Submit([&] { order += 's'; }, Turn::kSpare).ok());
  for (int i = 0; i < n_next; ++i) EXPECT_TRUE(pool.Submit([&] { order += 'n'; }).ok());
  held.LetGo();
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
  HeldThread held(&pool);
  for (int i = 0; i < 2; ++i) EXPECT_TRUE(pool.Submit([] {}, Turn::kSpare).ok());
  const Status full = pool.Submit([] {}, Turn::kSpare);
  EXPECT_TRUE(absl::IsResourceExhausted(full));
  EXPECT_THAT(std::string(full.message()), HasSubstr("test queue is full (2 jobs)"));
  EXPECT_TRUE(pool.Submit([] {}).ok());
  held.LetGo();
  pool.Stop();
}

}  // namespace
}  // namespace coterie::gateway
