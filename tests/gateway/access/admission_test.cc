#include "gateway/access/admission.h"

#include <mutex>
#include <string>
#include <vector>

#include "gateway/access/retry_delay.h"
#include "tests/gateway/gateway_test_base.h"

namespace coterie::gateway::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

// Notes who was let in, in order, and keeps their tickets.
class Door {
 public:
  Admission::Callback Admit(std::string name) {
    return [this, name](Admission::Ticket ticket) {
      const std::lock_guard<std::mutex> lock(mutex_);
      names_.push_back(name);
      tickets_.push_back(std::move(ticket));
    };
  }
  std::vector<std::string> names() {
    const std::lock_guard<std::mutex> lock(mutex_);
    return names_;
  }
  void Release(size_t i) {
    Admission::Ticket ticket;
    const std::lock_guard<std::mutex> lock(mutex_);
    ticket = std::move(tickets_[i]);
  }
  bool Admitted(size_t n) {
    return Eventually([&] { return names().size() >= n; });
  }

 private:
  std::mutex mutex_;
  std::vector<std::string> names_;
  std::vector<Admission::Ticket> tickets_;
};

class AdmissionTest : public ::testing::Test {
 protected:
  Admission Make(uint32_t running, uint32_t waiting, uint32_t tenant_running = 100,
                 uint32_t tenant_waiting = 100) {
    return Admission({running, waiting, tenant_running, tenant_waiting}, &timers_);
  }
  TimerQueue timers_;
};

TEST_F(AdmissionTest, LetsInAtOnceWhatFitsAndTheRestInOrder) {
  Admission admission = Make(2, 8);
  Door door;
  for (const char* name : {"a", "b", "c", "d"}) ASSERT_TRUE(admission.Enter("t", 0, door.Admit(name)).ok());
  EXPECT_THAT(door.names(), ElementsAre("a", "b"));
  EXPECT_EQ(admission.waiting(), 2u);
  door.Release(0);
  ASSERT_TRUE(door.Admitted(3));
  door.Release(1);
  ASSERT_TRUE(door.Admitted(4));
  EXPECT_THAT(door.names(), ElementsAre("a", "b", "c", "d"));
  door.Release(2);
  door.Release(3);
  EXPECT_TRUE(admission.idle());
}

TEST_F(AdmissionTest, AFullQueueIsRefusedWithARetryDelay) {
  Admission admission = Make(1, 1);
  Door door;
  ASSERT_TRUE(admission.Enter("t", 0, door.Admit("a")).ok());
  ASSERT_TRUE(admission.Enter("t", 0, door.Admit("b")).ok());
  const Status refused = admission.Enter("t", 0, door.Admit("c")).status();
  EXPECT_EQ(refused.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(refused.message()), HasSubstr("1 requests run and 1 wait, at most 1 may"));
  ASSERT_TRUE(RetryDelay(refused).has_value());
  EXPECT_GE(*RetryDelay(refused), absl::Milliseconds(100));
  EXPECT_LE(*RetryDelay(refused), absl::Seconds(30));
  door.Release(0);
  ASSERT_TRUE(door.Admitted(2));
  door.Release(1);
}

TEST_F(AdmissionTest, OneTenantCannotTakeThePlaceOfOthers) {
  Admission admission = Make(4, 8, 2, 1);
  Door door;
  for (const char* name : {"a1", "a2", "a3"}) ASSERT_TRUE(admission.Enter("a", 0, door.Admit(name)).ok());
  const Status refused = admission.Enter("a", 0, door.Admit("a4")).status();
  EXPECT_EQ(refused.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(refused.message()), HasSubstr("tenant \"a\""));
  ASSERT_TRUE(admission.Enter("b", 0, door.Admit("b1")).ok());
  EXPECT_THAT(door.names(), ElementsAre("a1", "a2", "b1"));
  door.Release(2);
  EXPECT_EQ(door.names().size(), 3u);  // b's place is not a's
  door.Release(0);
  ASSERT_TRUE(door.Admitted(4));
  EXPECT_EQ(door.names().back(), "a3");
  door.Release(1);
  door.Release(3);
}

TEST_F(AdmissionTest, PriorityComesFirstThenTheTenantWithTheFewestRunning) {
  Admission admission = Make(2, 8);
  Door door;
  ASSERT_TRUE(admission.Enter("busy", 0, door.Admit("x")).ok());
  ASSERT_TRUE(admission.Enter("busy", 0, door.Admit("y")).ok());
  ASSERT_TRUE(admission.Enter("busy", 0, door.Admit("busy")).ok());
  ASSERT_TRUE(admission.Enter("idle", 0, door.Admit("idle")).ok());
  ASSERT_TRUE(admission.Enter("busy", 5, door.Admit("urgent")).ok());
  door.Release(0);
  ASSERT_TRUE(door.Admitted(3));
  door.Release(1);
  ASSERT_TRUE(door.Admitted(4));
  door.Release(2);
  ASSERT_TRUE(door.Admitted(5));
  EXPECT_THAT(door.names(), ElementsAre("x", "y", "urgent", "idle", "busy"));
  door.Release(3);
  door.Release(4);
}

TEST_F(AdmissionTest, WhoLeavesIsNotLetInAndFreesThePlaceInTheQueue) {
  Admission admission = Make(1, 1);
  Door door;
  ASSERT_TRUE(admission.Enter("t", 0, door.Admit("a")).ok());
  const auto id = admission.Enter("t", 0, door.Admit("gone"));
  ASSERT_TRUE(id.ok());
  admission.Leave(*id);
  ASSERT_TRUE(admission.Enter("t", 0, door.Admit("b")).ok());
  door.Release(0);
  ASSERT_TRUE(door.Admitted(2));
  EXPECT_THAT(door.names(), ElementsAre("a", "b"));
  door.Release(1);
}

TEST_F(AdmissionTest, WhileDrainingItRefusesAndLetsTheWaitingFinish) {
  Admission admission = Make(1, 2);
  Door door;
  ASSERT_TRUE(admission.Enter("t", 0, door.Admit("a")).ok());
  ASSERT_TRUE(admission.Enter("t", 0, door.Admit("b")).ok());
  admission.Drain();
  const Status refused = admission.Enter("t", 0, door.Admit("c")).status();
  EXPECT_EQ(refused.code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(refused.message(), "this gateway is draining; ask another one");
  EXPECT_FALSE(admission.idle());
  door.Release(0);
  ASSERT_TRUE(door.Admitted(2));
  door.Release(1);
  EXPECT_TRUE(admission.idle());
}

}  // namespace
}  // namespace coterie::gateway::testing
