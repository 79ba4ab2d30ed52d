#include "gateway/access/admission.h"

#include <atomic>
#include <deque>
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
    return [this, name](StatusOr<Admission::Ticket> ticket) {
      const std::lock_guard<std::mutex> lock(mutex_);
      if (ticket.ok()) {
        names_.push_back(name);
        tickets_.push_back(*std::move(ticket));
      } else {
        refused_.push_back(name);
        why_ = ticket.status();
      }
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
  // The i-th that was let in.
  Admission::Ticket& ticket(size_t i) {
    const std::lock_guard<std::mutex> lock(mutex_);
    return tickets_[i];
  }
  void ReleaseAll() {
    for (size_t i = 0; i < names().size(); ++i) Release(i);
  }
  // Lets everybody in and out.
  void Empty(const Admission& admission) {
    EXPECT_TRUE(Eventually([&] {
      ReleaseAll();
      return admission.idle();
    }));
  }
  // Let in at first and refused after all.
  std::vector<std::string> refused() {
    const std::lock_guard<std::mutex> lock(mutex_);
    return refused_;
  }
  Status why() {
    const std::lock_guard<std::mutex> lock(mutex_);
    return why_;
  }
  bool Admitted(size_t n) {
    return Eventually([&] { return names().size() >= n; });
  }

 private:
  std::mutex mutex_;
  std::vector<std::string> names_;
  std::deque<Admission::Ticket> tickets_;
  std::vector<std::string> refused_;
  Status why_;
};

class AdmissionTest : public ::testing::Test {
 protected:
  static Admission::Options Limits(uint32_t running, uint32_t waiting) {
    Admission::Options options;
    options.max_running = running;
    options.max_waiting = waiting;
    return options;
  }
  Admission Make(uint32_t running, uint32_t waiting) { return Admission(Limits(running, waiting), &timers_); }
  static Admission::Entrant Of(const std::string& tenant, int32_t priority = 0) {
    Admission::Entrant entrant;
    entrant.tenant = tenant;
    entrant.priority = priority;
    return entrant;
  }
  static Admission::Entrant On(const std::string& connection) {
    Admission::Entrant entrant = Of("t");
    entrant.connection = connection;
    return entrant;
  }
  static Admission::Entrant Until(absl::Duration left) {
    Admission::Entrant entrant = Of("t");
    entrant.deadline = MonotonicNow() + left;
    return entrant;
  }
  static Admission::Entrant Texts(const std::string& tenant, uint32_t n) {
    Admission::Entrant entrant = Of(tenant);
    entrant.kind = Admission::Kind::kEmbed;
    entrant.cost = n;
    return entrant;
  }
  TimerQueue timers_;
};

TEST_F(AdmissionTest, LetsInAtOnceWhatFitsAndTheRestInOrder) {
  Admission admission = Make(2, 8);
  Door door;
  for (const char* name : {"a", "b", "c", "d"}) ASSERT_TRUE(admission.Enter(Of("t"), door.Admit(name)).ok());
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
  ASSERT_TRUE(admission.Enter(Of("t"), door.Admit("a")).ok());
  ASSERT_TRUE(admission.Enter(Of("t"), door.Admit("b")).ok());
  const Status refused = admission.Enter(Of("t"), door.Admit("c")).status();
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
  Admission::Options limits = Limits(4, 8);
  limits.max_running_per_tenant = 2;
  limits.max_waiting_per_tenant = 1;
  Admission admission(limits, &timers_);
  Door door;
  for (const char* name : {"a1", "a2", "a3"}) ASSERT_TRUE(admission.Enter(Of("a"), door.Admit(name)).ok());
  const Status refused = admission.Enter(Of("a"), door.Admit("a4")).status();
  EXPECT_EQ(refused.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(refused.message()), HasSubstr("tenant \"a\""));
  ASSERT_TRUE(admission.Enter(Of("b"), door.Admit("b1")).ok());
  EXPECT_THAT(door.names(), ElementsAre("a1", "a2", "b1"));
  door.Release(2);
  EXPECT_EQ(door.names().size(), 3u);  // b's place is not a's
  door.Release(0);
  ASSERT_TRUE(door.Admitted(4));
  EXPECT_EQ(door.names().back(), "a3");
  door.Release(1);
  door.Release(3);
}

TEST_F(AdmissionTest, WithinTheSharesPriorityComesFirstThenTheTenantWithTheFewestRunning) {
  Admission::Options limits = Limits(2, 8);
  limits.tenant_share = 1;
  Admission admission(limits, &timers_);
  Door door;
  ASSERT_TRUE(admission.Enter(Of("busy"), door.Admit("x")).ok());
  ASSERT_TRUE(admission.Enter(Of("busy"), door.Admit("y")).ok());
  ASSERT_TRUE(admission.Enter(Of("busy"), door.Admit("busy")).ok());
  ASSERT_TRUE(admission.Enter(Of("idle"), door.Admit("idle")).ok());
  ASSERT_TRUE(admission.Enter(Of("busy", 5), door.Admit("urgent")).ok());
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
  ASSERT_TRUE(admission.Enter(Of("t"), door.Admit("a")).ok());
  const auto id = admission.Enter(Of("t"), door.Admit("gone"));
  ASSERT_TRUE(id.ok());
  admission.Leave(*id);
  ASSERT_TRUE(admission.Enter(Of("t"), door.Admit("b")).ok());
  door.Release(0);
  ASSERT_TRUE(door.Admitted(2));
  EXPECT_THAT(door.names(), ElementsAre("a", "b"));
  door.Release(1);
}

TEST_F(AdmissionTest, WhileDrainingItRefusesAndLetsTheWaitingFinish) {
  Admission admission = Make(1, 2);
  Door door;
  ASSERT_TRUE(admission.Enter(Of("t"), door.Admit("a")).ok());
  ASSERT_TRUE(admission.Enter(Of("t"), door.Admit("b")).ok());
  admission.Drain();
  const Status refused = admission.Enter(Of("t"), door.Admit("c")).status();
  EXPECT_EQ(refused.code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(refused.message(), "this gateway is draining; ask another one");
  EXPECT_FALSE(admission.idle());
  door.Release(0);
  ASSERT_TRUE(door.Admitted(2));
  door.Release(1);
  EXPECT_TRUE(admission.idle());
}

TEST_F(AdmissionTest, ATenantAloneGetsEverythingAndYieldsAsItsWorkEnds) {
  Admission admission = Make(8, 8);  // a share is two
  Door door;
  for (int i = 0; i < 12; ++i) ASSERT_TRUE(admission.Enter(Of("noisy", 100), door.Admit("noisy")).ok());
  EXPECT_EQ(admission.running(), 8u);
  for (int i = 0; i < 3; ++i) ASSERT_TRUE(admission.Enter(Of("quiet"), door.Admit("quiet")).ok());
  for (size_t i = 0; i < 4; ++i) {
    door.Release(i);
    ASSERT_TRUE(door.Admitted(9 + i));
  }
  // Up to its share the quiet one comes first, whatever the other's priority; then priority counts.
  std::vector<std::string> names = door.names();
  names.erase(names.begin(), names.begin() + 8);
  EXPECT_THAT(names, ElementsAre("quiet", "quiet", "noisy", "noisy"));
  door.Empty(admission);
}

TEST_F(AdmissionTest, AFullQueueGivesANewcomerThePlaceOfWhoeverWaitsForMost) {
  Admission admission = Make(1, 4);
  Door door;
  ASSERT_TRUE(admission.Enter(Of("noisy"), door.Admit("runs")).ok());
  for (const char* name : {"n1", "n2", "n3", "n4"}) {
    ASSERT_TRUE(admission.Enter(Of("noisy"), door.Admit(name)).ok());
  }
  EXPECT_FALSE(admission.Enter(Of("noisy"), door.Admit("n5")).ok());
  ASSERT_TRUE(admission.Enter(Of("quiet"), door.Admit("q1")).ok());
  ASSERT_TRUE(Eventually([&] { return door.refused().size() == 1; }));
  EXPECT_THAT(door.refused(), ElementsAre("n4"));  // the last of them
  EXPECT_TRUE(absl::IsResourceExhausted(door.why()));
  EXPECT_TRUE(RetryDelay(door.why()).has_value());
  EXPECT_THAT(std::string(door.why().message()), HasSubstr("--max-waiting 4"));
  // Half of the queue is its own now; a third would only push out what has as much right to be there.
  ASSERT_TRUE(admission.Enter(Of("quiet"), door.Admit("q2")).ok());
  EXPECT_FALSE(admission.Enter(Of("quiet"), door.Admit("q3")).ok());
  EXPECT_EQ(admission.waiting(), 4u);
  ASSERT_TRUE(Eventually([&] { return door.refused().size() == 2; }));
  door.Release(0);
  ASSERT_TRUE(door.Admitted(2));
  EXPECT_EQ(door.names()[1], "q1");
  door.Empty(admission);
}

TEST_F(AdmissionTest, OneConnectionOfATenantCannotKeepItsOthersOut) {
  Admission admission = Make(2, 4);
  Door door;
  for (int i = 0; i < 6; ++i) ASSERT_TRUE(admission.Enter(On("flood"), door.Admit("flood")).ok());
  ASSERT_TRUE(admission.Enter(On("other"), door.Admit("other")).ok());
  ASSERT_TRUE(Eventually([&] { return door.refused().size() == 1; }));
  EXPECT_THAT(door.refused(), ElementsAre("flood"));
  door.Release(0);
  ASSERT_TRUE(door.Admitted(3));
  EXPECT_EQ(door.names()[2], "other");
  door.Empty(admission);
}

TEST_F(AdmissionTest, OfEqualsTheEarliestDeadlineIsNext) {
  Admission admission = Make(1, 8);
  Door door;
  ASSERT_TRUE(admission.Enter(Of("t"), door.Admit("runs")).ok());
  ASSERT_TRUE(admission.Enter(Until(absl::Hours(3)), door.Admit("later")).ok());
  ASSERT_TRUE(admission.Enter(Until(absl::Hours(1)), door.Admit("soon")).ok());
  ASSERT_TRUE(admission.Enter(Until(absl::Hours(2)), door.Admit("between")).ok());
  for (size_t i = 0; i < 3; ++i) {
    door.Release(i);
    ASSERT_TRUE(door.Admitted(2 + i));
  }
  EXPECT_THAT(door.names(), ElementsAre("runs", "soon", "between", "later"));
  door.Release(3);
}

TEST_F(AdmissionTest, WorkersGetNoMoreThanTheyBegin) {
  Admission::Options limits = Limits(100, 100);
  limits.max_unstarted = 2;
  Admission admission(limits, &timers_);
  Door door;
  for (int i = 0; i < 8; ++i) ASSERT_TRUE(admission.Enter(Of("t"), door.Admit("a")).ok());
  EXPECT_EQ(admission.running(), 2u);
  for (size_t i = 0; i < 2; ++i) {
    door.ticket(i).Start();
    ASSERT_TRUE(door.Admitted(3 + i));
  }
  // Three have begun: as many may be on their way.
  door.ticket(2).Start();
  ASSERT_TRUE(door.Admitted(6));
  EXPECT_EQ(admission.running(), 6u);
  door.Release(3);  // ended, and never began
  ASSERT_TRUE(door.Admitted(7));
  door.Empty(admission);
  EXPECT_EQ(door.names().size(), 8u);
}

TEST_F(AdmissionTest, AnAnswerThatNobodyReadsLendsItsPlaceAndTakesItBack) {
  Admission admission = Make(1, 8);
  Door door;
  ASSERT_TRUE(admission.Enter(On("slow"), door.Admit("slow")).ok());
  ASSERT_TRUE(admission.Enter(On("fast"), door.Admit("fast")).ok());
  door.ticket(0).Start();
  EXPECT_TRUE(door.ticket(0).Pause().ok());
  ASSERT_TRUE(door.Admitted(2));
  EXPECT_EQ(admission.running(), 1u);
  EXPECT_EQ(admission.paused(), 1u);
  door.ticket(0).Resume();  // waits for nobody
  EXPECT_EQ(admission.running(), 2u);
  EXPECT_EQ(admission.paused(), 0u);
  EXPECT_TRUE(door.ticket(0).Pause().ok());
  door.ReleaseAll();
  EXPECT_TRUE(admission.idle());
}

TEST_F(AdmissionTest, OneConnectionMayLeaveHalfOfThePausedUnread) {
  Admission::Options limits = Limits(100, 100);
  limits.max_paused = 4;
  Admission admission(limits, &timers_);
  Door door;
  for (int i = 0; i < 3; ++i) ASSERT_TRUE(admission.Enter(On("slow"), door.Admit("slow")).ok());
  for (size_t i = 0; i < 3; ++i) door.ticket(i).Start();
  EXPECT_TRUE(door.ticket(0).Pause().ok());
  EXPECT_TRUE(door.ticket(1).Pause().ok());
  const Status refused = door.ticket(2).Pause();
  EXPECT_TRUE(absl::IsResourceExhausted(refused));
  EXPECT_THAT(std::string(refused.message()), HasSubstr("2 others on this connection; at most 2"));
  EXPECT_THAT(std::string(refused.message()), HasSubstr("--max-paused 4"));
  EXPECT_EQ(admission.running(), 1u);
  door.ReleaseAll();
  EXPECT_TRUE(admission.idle());
}

TEST_F(AdmissionTest, WhatRunsAndWhatStandsStillStayWithinWhatTheWorkersHold) {
  Admission::Options limits = Limits(100, 100);
  limits.max_unstarted = 100;
  Admission admission(limits, &timers_);
  std::atomic<uint64_t> capacity = 6;
  admission.SetCapacity([&] { return capacity.load(); });
  Door door;
  const auto enter = [&](const std::string& name) {
    Admission::Entrant entrant = On(name);
    entrant.tenant = name;
    EXPECT_TRUE(admission.Enter(entrant, door.Admit(name)).ok());
  };
  for (int i = 0; i < 3; ++i) enter("slow");
  for (int i = 0; i < 4; ++i) enter("other");
  EXPECT_EQ(admission.running(), 6u);
  EXPECT_EQ(admission.waiting(), 1u);
  for (size_t i = 0; i < 6; ++i) door.ticket(i).Start();
  EXPECT_TRUE(door.ticket(0).Pause().ok());  // its place is still taken at its worker
  EXPECT_EQ(admission.waiting(), 1u);
  const Status refused = door.ticket(1).Pause();
  EXPECT_TRUE(absl::IsResourceExhausted(refused));
  EXPECT_THAT(std::string(refused.message()), HasSubstr("1 others on this connection; at most 1"));
  EXPECT_THAT(std::string(refused.message()), HasSubstr("half of the 6 answers that the workers hold"));
  EXPECT_TRUE(door.ticket(3).Pause().ok());
  door.Release(1);
  ASSERT_TRUE(door.Admitted(7));
  // A worker went: what stands still takes half at most.
  capacity = 2;
  for (const size_t i : {size_t{2}, size_t{4}, size_t{5}}) door.Release(i);
  enter("late");
  EXPECT_EQ(admission.waiting(), 1u);  // the seventh runs
  door.Release(6);
  ASSERT_TRUE(door.Admitted(8));
  capacity = 0;  // nobody knows
  enter("more");
  ASSERT_TRUE(door.Admitted(9));
  door.ReleaseAll();
  EXPECT_TRUE(admission.idle());
}

TEST_F(AdmissionTest, TextsCostWhatTheyAreAndTakeNoPlaceFromAnswers) {
  Admission::Options limits = Limits(1, 1);
  limits.max_embedding = 256;
  limits.max_embedding_waiting = 512;
  Admission admission(limits, &timers_);
  Door door;
  ASSERT_TRUE(admission.Enter(Texts("big", 256), door.Admit("big1")).ok());
  ASSERT_TRUE(admission.Enter(Texts("big", 256), door.Admit("big2")).ok());
  ASSERT_TRUE(admission.Enter(Texts("big", 256), door.Admit("big3")).ok());
  EXPECT_FALSE(admission.Enter(Texts("big", 1), door.Admit("big4")).ok());
  ASSERT_TRUE(admission.Enter(Texts("small", 1), door.Admit("small")).ok());  // in the place of big3
  ASSERT_TRUE(admission.Enter(Of("answers"), door.Admit("answer")).ok());
  ASSERT_TRUE(Eventually([&] { return door.refused().size() == 1; }));
  EXPECT_THAT(door.names(), ElementsAre("big1", "answer"));
  door.Release(0);
  ASSERT_TRUE(door.Admitted(3));
  // Nobody overtakes the large one for ever, though there is room for more small ones.
  ASSERT_TRUE(admission.Enter(Texts("small", 1), door.Admit("small2")).ok());
  EXPECT_THAT(door.names(), ElementsAre("big1", "answer", "small"));
  door.Release(2);
  ASSERT_TRUE(door.Admitted(4));
  EXPECT_EQ(admission.running(Admission::Kind::kEmbed) + admission.waiting(Admission::Kind::kEmbed), 257u);
  door.Empty(admission);
  EXPECT_EQ(door.names().size(), 5u);
}

TEST_F(AdmissionTest, WhatCannotEndInTimeIsRefusedWhenThatIsKnown) {
  Admission::Options limits = Limits(100, 1000);
  limits.max_unstarted = 1;
  Admission admission(limits, &timers_);
  Door door;
  // One begins every 20 ms, and the next is on its way by then.
  for (int i = 0; i < 200; ++i) ASSERT_TRUE(admission.Enter(Of("t", 1), door.Admit("early")).ok());
  for (size_t i = 0; i < 20; ++i) {
    absl::SleepFor(absl::Milliseconds(20));
    door.ticket(i).Start();
    door.Release(i);
    ASSERT_TRUE(door.Admitted(i + 2));
  }
  // Some 180 ahead of it take 3.6 s, or more where the machine is slow; hours are enough in any case.
  const Status late = admission.Enter(Until(absl::Milliseconds(500)), door.Admit("late")).status();
  EXPECT_TRUE(absl::IsResourceExhausted(late));
  EXPECT_THAT(std::string(late.message()), HasSubstr("there is not enough time left"));
  EXPECT_TRUE(RetryDelay(late).has_value());
  EXPECT_TRUE(admission.Enter(Until(absl::Hours(5)), door.Admit("patient")).ok());
  // Whoever comes before them has the time.
  Admission::Entrant urgent = Until(absl::Seconds(10));
  urgent.priority = 2;
  EXPECT_TRUE(admission.Enter(urgent, door.Admit("urgent")).ok());
  uint64_t n_late = 0;
  for (const Admission::Refused& refused : admission.refused()) {
    if (std::string(refused.reason) == "late") n_late += refused.n;
  }
  EXPECT_EQ(n_late, 1u);
  door.Empty(admission);
}

}  // namespace
}  // namespace coterie::gateway::testing
