#include "worker/service/state_tracker.h"

#include <random>
#include <set>

#include "gtest/gtest.h"

namespace coterie::worker {
namespace {

// What a gateway makes of the messages: it is told nothing twice and nothing that it does not have.
class Listener {
 public:
  void Hear(const StateTracker& tracker) {
    v1::WorkerState state;
    report_.Fill(tracker, /*with_prefixes=*/true, &state);
    if (state.prefixes_reset()) {
      ++n_resets_;
      told_.clear();
    }
    EXPECT_LE(state.prefixes_added_size() + state.prefixes_removed_size(),
              static_cast<int>(StateReport::kMaxPrefixesAtOnce));
    for (const uint64_t key : state.prefixes_removed()) EXPECT_EQ(told_.erase(key), 1u) << key;
    for (const uint64_t key : state.prefixes_added()) EXPECT_TRUE(told_.insert(key).second) << key;
  }
  // Returns how many messages it took.
  int HearAll(const StateTracker& tracker) {
    int n = 0;
    for (; report_.PrefixesChanged(tracker); ++n) Hear(tracker);
    return n;
  }
  void Reconnect() {
    report_.Reset();
    told_.clear();
  }
  bool IsBehind(const StateTracker& tracker) const { return report_.IsBehind(tracker); }
  const std::set<uint64_t>& told() const { return told_; }
  int n_resets() const { return n_resets_; }

 private:
  StateReport report_;
  std::set<uint64_t> told_;
  int n_resets_ = 0;
};

std::set<uint64_t> All(const StateTracker& tracker) {
  const std::vector<uint64_t> keys = tracker.Prefixes();
  return {keys.begin(), keys.end()};
}

TEST(StateTrackerTest, OnlyTheNewestPrefixesAreKept) {
  StateTracker tracker(4096);
  std::vector<PrefixEvent> events;
  for (uint64_t key = 0; key < 10000; ++key) events.push_back({key, true});
  for (uint64_t key = 9000; key < 9500; ++key) events.push_back({key, false});
  tracker.Apply({}, events);
  EXPECT_LE(tracker.n_prefixes(), 4096u);
  EXPECT_FALSE(tracker.HasPrefix(0));
  EXPECT_FALSE(tracker.HasPrefix(9200));
  EXPECT_TRUE(tracker.HasPrefix(9999));
  StateReport report;
  v1::WorkerState first, second;
  report.Fill(tracker, true, &first);
  EXPECT_EQ(first.prefixes_added_size(), static_cast<int>(tracker.n_prefixes()));
  tracker.Apply({}, std::vector<PrefixEvent>{{9999, false}, {5, true}});
  report.Fill(tracker, true, &second);
  EXPECT_EQ(second.prefixes_added_size(), 1);
  EXPECT_EQ(second.prefixes_removed_size(), 1);
}

TEST(StateTrackerTest, ALargeCacheIsToldWholeInBoundedPiecesTheNewestFirst) {
  StateTracker tracker;
  std::vector<PrefixEvent> events;
  for (uint64_t key = 0; key < 65'536; ++key) events.push_back({key, true});
  tracker.Apply({}, events);
  Listener listener;
  listener.Hear(tracker);
  EXPECT_TRUE(listener.told().contains(65'535));
  EXPECT_FALSE(listener.told().contains(0));
  EXPECT_TRUE(listener.IsBehind(tracker));
  // What changes meanwhile is told too, in its turn.
  tracker.Apply({},
                std::vector<PrefixEvent>{{65'535, false}, {0, false}, {70'000, true}, {1, false}, {1, true}});
  EXPECT_EQ(listener.HearAll(tracker), 16);
  EXPECT_EQ(listener.told(), All(tracker));
  EXPECT_EQ(listener.told().size(), 65'535u);
  EXPECT_FALSE(listener.IsBehind(tracker));
}

// Over random changes, tellings at any time, connections that break and listeners that fall far behind.
TEST(StateTrackerTest, WhoeverListensHasInTheEndWhatIsThere) {
  std::mt19937_64 random(7);
  for (const size_t max_prefixes : {1, 40, 100, 5000}) {
    StateTracker tracker(max_prefixes);
    Listener quick, slow;
    std::set<uint64_t> plain;  // without the bound
    for (int round = 0; round < 400; ++round) {
      std::vector<PrefixEvent> events;
      const size_t n = random() % (round % 50 == 0 ? 40'000 : 60);
      for (size_t i = 0; i < n; ++i) {
        const uint64_t key = random() % 120;
        events.push_back({key, random() % 2 == 0});
        if (events.back().added) {
          plain.insert(key);
        } else {
          plain.erase(key);
        }
      }
      tracker.Apply({}, events);
      ASSERT_LE(tracker.n_prefixes(), max_prefixes);
      if (max_prefixes > 120) {
        ASSERT_EQ(All(tracker), plain);
      }
      if (random() % 3 != 0) quick.Hear(tracker);
      if (random() % 40 == 0) slow.Hear(tracker);
      if (random() % 60 == 0) quick.Reconnect();
    }
    quick.HearAll(tracker);
    slow.HearAll(tracker);
    EXPECT_EQ(quick.told(), All(tracker));
    EXPECT_EQ(slow.told(), All(tracker));
    EXPECT_GT(slow.n_resets(), 0);
  }
}

TEST(StateTrackerTest, NothingIsToldAgainWhereNothingChanges) {
  StateTracker tracker(16);
  tracker.Apply({}, std::vector<PrefixEvent>{{1, true}, {2, true}});
  Listener listener;
  EXPECT_EQ(listener.HearAll(tracker), 1);
  tracker.Apply({}, std::vector<PrefixEvent>{{1, true}, {3, false}});  // as it was
  EXPECT_EQ(listener.HearAll(tracker), 0);
  tracker.Apply({}, std::vector<PrefixEvent>{{1, false}, {1, true}});
  EXPECT_EQ(listener.HearAll(tracker), 1);
  EXPECT_EQ(listener.told(), (std::set<uint64_t>{1, 2}));
}

}  // namespace
}  // namespace coterie::worker
