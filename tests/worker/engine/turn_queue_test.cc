#include "worker/engine/turn_queue.h"

#include <algorithm>
#include <limits>
#include <list>
#include <random>

#include "gtest/gtest.h"
#include "worker/engine/scheduler.h"

namespace coterie {
namespace {

constexpr uint64_t kTurn = 1024;
const absl::Duration kOverdue = absl::Seconds(60);

// The order as it is defined, by sorting everything that competes.
std::vector<Sequence*> PlainOrder(std::vector<Sequence*> competing, MonotonicTime now, bool overdue_due) {
  struct Placed {
    int place;
    uint64_t tenant, expert;
    Sequence* sequence;
  };
  std::sort(competing.begin(), competing.end(), [](Sequence* a, Sequence* b) { return a->before(*b); });
  int highest = -kMaxPriority;
  uint64_t least_tenant = std::numeric_limits<uint64_t>::max();
  for (const Sequence* s : competing) {
    highest = std::max(highest, s->request.priority);
    least_tenant = std::min(least_tenant, FairShares::TenantServed(*s));
  }
  int highest_before = -kMaxPriority;
  std::vector<Placed> placed;
  for (Sequence* s : competing) {
    const int priority = s->request.priority;
    const bool aged = priority < highest && priority >= highest_before;
    highest_before = std::max(highest_before, priority);
    int place = aged ? 2 : 4 + 2 * (kMaxPriority - priority);
    const uint64_t tenant = FairShares::TenantServed(*s), expert = FairShares::ExpertServed(*s);
    const bool far_ahead =
        tenant - least_tenant > kTurn ||
        std::any_of(competing.begin(), competing.end(), [&](const Sequence* o) {
          return o->tenant_share == s->tenant_share && FairShares::ExpertServed(*o) + kTurn < expert;
        });
    if (s->state == SequenceState::kRunning && !far_ahead) --place;
    if (overdue_due && s->state == SequenceState::kWaiting && now - s->arrival > kOverdue) {
      place = 0;
      overdue_due = false;
    }
    placed.push_back({place, tenant, expert, s});
  }
  std::sort(placed.begin(), placed.end(), [](const Placed& a, const Placed& b) {
    if (a.place != b.place) return a.place < b.place;
    if (a.tenant != b.tenant) return a.tenant < b.tenant;
    if (a.expert != b.expert) return a.expert < b.expert;
    return a.sequence->before(*b.sequence);
  });
  std::vector<Sequence*> order;
  for (const Placed& p : placed) order.push_back(p.sequence);
  return order;
}

class Crowd {
 public:
  explicit Crowd(uint32_t seed, int n_parties) : random_(seed), n_parties_(n_parties) {}

  uint32_t Below(uint32_t n) { return static_cast<uint32_t>(random_() % n); }

  Sequence* Come() {
    auto s = std::make_unique<Sequence>();
    s->request.id = ++n_came_;
    s->request.tenant = "tenant " + std::to_string(Below(static_cast<uint32_t>(n_parties_)));
    if (Below(4) != 0) {
      s->request.adapters = {{Sha256(std::to_string(Below(static_cast<uint32_t>(n_parties_)))), 1.0f, "e"}};
    }
    s->request.priority = Below(2) == 0 ? 0 : static_cast<int>(Below(7)) - 3;
    s->arrival = now - absl::Milliseconds(Below(90'000));
    s->rank = Scheduler::Rank({}, s->arrival, s->request.priority);
    all_.push_back(std::move(s));
    return all_.back().get();
  }
  void Wait(Sequence* s) {
    s->state = SequenceState::kWaiting;
    shares.Enter(s);
    queue.Add(s);
    waiting.push_back(s);
  }
  void StopWaiting(Sequence* s) {
    queue.Remove(s);
    std::erase(waiting, s);
  }
  void Run(Sequence* s) {
    s->state = SequenceState::kRunning;
    running.push_back(s);
  }
  void Leave(Sequence* s) {
    std::erase(running, s);
    s->state = SequenceState::kFinished;
    shares.Leave(s);
  }

  MonotonicTime now = MonotonicTime::Epoch() + absl::Hours(1);
  FairShares shares;
  TurnQueue queue{{.overdue = kOverdue, .turn = kTurn, .max_live = 4000}};
  std::vector<Sequence*> waiting, running;

 private:
  std::mt19937 random_;
  const int n_parties_;
  uint64_t n_came_ = 0;
  std::list<std::unique_ptr<Sequence>> all_;
};

TEST(TurnQueueTest, HandsOutInTheOrderThatSortingEverythingGives) {
  for (uint32_t seed = 0; seed < 30; ++seed) {
    Crowd crowd(seed, 1 + static_cast<int>(seed % 6));
    for (int step = 0; step < 120; ++step) {
      crowd.now += absl::Milliseconds(crowd.Below(3000));
      for (uint32_t n = crowd.Below(8); n > 0; --n) crowd.Wait(crowd.Come());
      if (!crowd.waiting.empty() && crowd.Below(3) == 0) {  // cancelled
        Sequence* s = crowd.waiting[crowd.Below(static_cast<uint32_t>(crowd.waiting.size()))];
        crowd.StopWaiting(s);
        crowd.shares.Leave(s);
      }
      std::vector<Sequence*> competing = crowd.waiting;
      competing.insert(competing.end(), crowd.running.begin(), crowd.running.end());
      const bool overdue_due = crowd.Below(4) == 0;
      const std::vector<Sequence*> expected = PlainOrder(competing, crowd.now, overdue_due);
      const std::vector<Sequence*> begun = crowd.running;
      crowd.queue.Begin(begun, crowd.now, overdue_due);
      // What a step does meanwhile changes nothing of its order.
      int seats = static_cast<int>(crowd.Below(4));
      for (Sequence* wanted : expected) {
        Sequence* s = crowd.queue.Next(1 << 30);
        ASSERT_EQ(s, wanted) << "seed " << seed << ", step " << step;
        if (s->state == SequenceState::kWaiting && seats > 0) {
          --seats;
          crowd.StopWaiting(s);
          crowd.Run(s);
        }
        if (s->state == SequenceState::kRunning && crowd.Below(2) == 0) {
          s->tenant_share->served += crowd.Below(900);
          s->expert_share->served += crowd.Below(900);
        }
        if (!crowd.running.empty() && crowd.Below(6) == 0) {  // loses its blocks
          Sequence* victim = crowd.running[crowd.Below(static_cast<uint32_t>(crowd.running.size()))];
          std::erase(crowd.running, victim);
          crowd.Wait(victim);
        }
      }
      ASSERT_EQ(crowd.queue.Next(1 << 30), nullptr);
      ASSERT_EQ(crowd.queue.size(), static_cast<int>(crowd.waiting.size()));
      for (Sequence* s : std::vector<Sequence*>(crowd.running)) {
        if (crowd.Below(3) == 0) crowd.Leave(s);
      }
    }
  }
}

TEST(TurnQueueTest, LooksAtNoMoreOfThoseThatWaitThanAskedButAtEveryBegunPrompt) {
  Crowd crowd(1, 3);
  for (int i = 0; i < 50; ++i) crowd.Wait(crowd.Come());
  for (int i = 0; i < 5; ++i) {
    Sequence* s = crowd.Come();
    crowd.shares.Enter(s);
    crowd.Run(s);
  }
  crowd.queue.Begin(crowd.running, crowd.now, false);
  int n_waiting = 0, n_running = 0;
  while (const Sequence* s = crowd.queue.Next(7)) {
    ++(s->state == SequenceState::kWaiting ? n_waiting : n_running);
  }
  EXPECT_EQ(n_waiting, 7);
  EXPECT_EQ(n_running, 5);
}

TEST(TurnQueueTest, OfThoseThatHoldBlocksTheLastIsTheWorstRanked) {
  Crowd crowd(2, 3);
  std::vector<Sequence*> holders;
  for (int i = 0; i < 40; ++i) {
    Sequence* s = crowd.Come();
    if (i % 3 == 0) s->rows[0].blocks = {i};
    crowd.Wait(s);
    if (i % 3 == 0) holders.push_back(s);
  }
  std::sort(holders.begin(), holders.end(), [](Sequence* a, Sequence* b) { return a->before(*b); });
  while (!holders.empty()) {
    EXPECT_EQ(crowd.queue.LastWithBlocks(nullptr), holders.back());
    if (holders.size() > 1) {
      EXPECT_EQ(crowd.queue.LastWithBlocks(holders.back()), holders[holders.size() - 2]);
    }
    if (holders.size() % 2 == 0) {
      holders.back()->rows[0].blocks.clear();
    } else {
      crowd.StopWaiting(holders.back());
    }
    holders.pop_back();
  }
  EXPECT_EQ(crowd.queue.LastWithBlocks(nullptr), nullptr);
}

}  // namespace
}  // namespace coterie
