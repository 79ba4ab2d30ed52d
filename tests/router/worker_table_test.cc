#include "router/worker_table.h"

#include <fnmatch.h>

#include <map>
#include <random>
#include <set>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "router/placement.h"
#include "tests/router/placement_reference.h"
#include "tests/router/worker_views.h"

namespace coterie {
namespace {

using router_internal::RowSet;

TEST(RowSetTest, IsTheSetOfItsRows) {
  std::mt19937 random(1);
  for (int round = 0; round < 200; ++round) {
    RowSet set;
    std::set<uint32_t> expected;
    const uint32_t n_rows = 1 + random() % (round % 2 == 0 ? 3 : 300);
    for (int i = 0; i < 100; ++i) {
      const uint32_t row = random() % n_rows;
      if (random() % 2 == 0) {
        EXPECT_EQ(set.Insert(row), expected.insert(row).second);
      } else {
        EXPECT_EQ(set.Erase(row), expected.erase(row) > 0);
      }
      EXPECT_EQ(set.empty(), expected.empty());
      const RowSet moved = std::move(set);
      std::vector<uint64_t> words((n_rows + 63) / 64, ~uint64_t{0});
      moved.KeepOnly(words);
      for (uint32_t r = 0; r < n_rows; ++r) {
        ASSERT_EQ(moved.Contains(r), expected.contains(r));
        ASSERT_EQ((words[r / 64] >> (r % 64) & 1) != 0, expected.contains(r));
      }
      set = RowSet();
      for (const uint32_t r : expected) set.Insert(r);
    }
  }
}

// A fleet kept in the plainest way, beside the table that is told the same.
class Fleet {
 public:
  explicit Fleet(uint32_t seed) : random_(seed) {}

  uint32_t Below(uint32_t n) { return static_cast<uint32_t>(random_() % n); }
  Digest AnAdapter() { return Sha256("e" + std::to_string(Below(8))); }

  void ChangeSomething() {
    now_ += absl::Milliseconds(Below(900));
    if (workers_.empty() || Below(20) == 0) return Join();
    auto it = workers_.begin();
    std::advance(it, Below(static_cast<uint32_t>(workers_.size())));
    auto& [row, worker] = *it;
    switch (Below(10)) {
      case 0:
        if (Below(4) == 0) {
          table_.Remove(row);
          workers_.erase(it);
        }
        return;
      case 1:
        table_.ForgetAdapters(row);
        while (!table_.ForgetPrefixes(row, 2)) {
        }
        worker.resident.clear();
        worker.prefixes.clear();
        worker.coming.clear();
        return;
      case 2:
        return BecomeAnother(row, &worker);
      case 3: {
        const Digest adapter = AnAdapter();
        const bool known = worker.resident.contains(adapter) ||
                           (worker.coming.contains(adapter) && worker.coming[adapter] > now_);
        EXPECT_EQ(table_.Expect(row, adapter, now_), !known);
        if (!known) worker.coming[adapter] = now_ + WorkerTable::kComingFor;
        return;
      }
      case 4: {
        const Digest adapter = AnAdapter();
        table_.RemoveResident(row, adapter);
        worker.resident.erase(adapter);
        return;
      }
      case 5: {
        const Digest adapter = AnAdapter();
        table_.AddResident(row, adapter);
        worker.resident.insert(adapter);
        worker.coming.erase(adapter);
        return;
      }
      case 6: {
        const PrefixKey key = Below(12);
        table_.RemovePrefix(row, key);
        worker.prefixes.erase(key);
        return;
      }
      case 7: {
        const PrefixKey key = Below(12);
        table_.AddPrefix(row, key);
        worker.prefixes.insert(key);
        return;
      }
      default:
        return SayNumbers(row, &worker);
    }
  }

  PlacementRequest ARequest(std::vector<PrefixKey>* keys) {
    PlacementRequest request;
    for (uint32_t n = Below(4); n > 0; --n) {
      const std::string name = "e" + std::to_string(Below(8));
      request.adapters.push_back({.name = name, .digest = Sha256(name), .n_bytes = Below(1 << 28)});
    }
    request.base = Sha256("base");
    keys->clear();
    for (uint32_t n = Below(9); n > 0; --n) keys->push_back(Below(12));
    request.prefix_keys = *keys;
    request.n_prompt_tokens = Below(2) == 0 ? Below(200) : Below(4000);
    request.max_new_tokens = Below(2) == 0 ? Below(100) : Below(10'000);
    if (Below(3) == 0) request.numerics_class = Below(2) == 0 ? "a" : "b";
    while (Below(3) == 0) request.exclude.insert("w" + std::to_string(Below(6)));
    request.seed = random_();
    return request;
  }

  // As each worker's own sets say.
  std::vector<reference::WorkerView> Views(const PlacementRequest& request) const {
    std::vector<reference::WorkerView> views;
    for (const auto& [row, worker] : workers_) {
      reference::WorkerView view = worker.numbers;
      size_t n_coming = 0;
      for (const auto& [adapter, until] : worker.coming) n_coming += until > now_ ? 1 : 0;
      view.alive = worker.alive_until > now_;
      view.ejected = worker.ejected_until > now_;
      view.adapter_slots_taken = static_cast<uint32_t>(
          std::max<size_t>(worker.adapters_resident, worker.resident.size()) + n_coming);
      view.waiting = std::max(view.running + view.waiting, worker.assigned) - view.running;
      for (const auto& adapter : request.adapters) {
        if (worker.resident.contains(adapter.digest)) {
          view.resident.insert(adapter.digest);
        } else if (const auto it = worker.coming.find(adapter.digest);
                   it != worker.coming.end() && it->second > now_) {
          view.loading.insert(adapter.digest);
        }
        for (const std::string& pattern : worker.serves) {
          if (fnmatch(pattern.c_str(), adapter.name.c_str(), 0) == 0) view.serves.insert(adapter.name);
        }
      }
      if (!worker.serves.empty() && view.serves.empty()) view.serves.insert("nothing asked for");
      while (view.warm_blocks < request.prefix_keys.size() &&
             worker.prefixes.contains(request.prefix_keys[view.warm_blocks])) {
        ++view.warm_blocks;
      }
      views.push_back(std::move(view));
    }
    return views;
  }

  const WorkerTable& table() const { return table_; }
  MonotonicTime now() const { return now_; }

 private:
  struct Worker {
    reference::WorkerView numbers;
    std::vector<std::string> serves;
    uint32_t assigned = 0;
    uint32_t adapters_resident = 0;
    MonotonicTime alive_until, ejected_until;
    std::set<Digest> resident;
    std::set<PrefixKey> prefixes;
    std::map<Digest, MonotonicTime> coming;
  };

  void Join() {
    const std::string id = "w" + std::to_string(n_joined_++);
    const WorkerTable::Row row = table_.Add(id);
    Worker& worker = workers_[row] = Worker();
    worker.numbers.id = id;
    if (Below(8) == 0) return;  // silent yet
    BecomeAnother(row, &worker);
    SayNumbers(row, &worker);
  }

  void BecomeAnother(WorkerTable::Row row, Worker* worker) {
    reference::WorkerView& view = worker->numbers;
    view.base = Sha256(Below(10) == 0 ? "another base" : "base");
    view.numerics_class = Below(3) == 0 ? "a" : "b";
    view.max_running = 1 + Below(20);
    view.max_sequence_tokens = Below(3) == 0 ? Below(3000) : 0;
    view.kv_block_tokens = Below(4) == 0 ? 64 : 16;
    view.kv_blocks_total = Below(300);
    view.adapter_slots_total = Below(6);
    worker->serves.clear();
    if (Below(3) == 0) worker->serves = {"e[0-3]", Below(2) == 0 ? "e5" : "e6"};
    WorkerTraits traits = TraitsOf(view);
    traits.serves = worker->serves;
    table_.SetTraits(row, traits);
    SayNumbers(row, worker);
  }

  void SayNumbers(WorkerTable::Row row, Worker* worker) {
    reference::WorkerView& view = worker->numbers;
    WorkerRow& numbers = table_.at(row);
    numbers.draining = view.draining = Below(10) == 0;
    numbers.refused = view.refused = Below(10) == 0;
    numbers.running = view.running = Below(24);
    numbers.waiting = view.waiting = Below(3) == 0 ? Below(10) : 0;
    numbers.assigned = worker->assigned = Below(30);
    numbers.kv_blocks_free = view.kv_blocks_free = Below(view.kv_blocks_total + 1);
    numbers.adapters_resident = worker->adapters_resident = Below(6);
    numbers.prefill_tokens_per_second = view.prefill_tokens_per_second =
        Below(10) == 0 ? -1 : 1 + Below(4) * 1000;
    numbers.decode_tokens_per_second = view.decode_tokens_per_second = Below(10) == 0 ? NAN : Below(4) * 100;
    numbers.load_bytes_per_second = view.load_bytes_per_second = Below(2) == 0    ? 0
                                                                 : Below(10) == 0 ? INFINITY
                                                                                  : 1e6 * Below(9000);
    numbers.answer_tokens = view.answer_tokens = Below(2) == 0 ? 0 : Below(10) == 0 ? NAN : Below(900);
    numbers.alive_until = worker->alive_until =
        Below(8) == 0 ? MonotonicTime::InfinitePast() : now_ + absl::Milliseconds(Below(50'000));
    numbers.ejected_until = worker->ejected_until =
        now_ + absl::Milliseconds(Below(4) == 0 ? Below(9000) : 0);
  }

  std::mt19937_64 random_;
  WorkerTable table_;
  std::map<WorkerTable::Row, Worker> workers_;
  MonotonicTime now_ = MonotonicTime::Epoch();
  int n_joined_ = 0;
};

// Whatever happened to a fleet, the table decides as views made anew of every worker would: the same worker
// at the same cost to the last bit, in the same words, or the same refusal.
TEST(WorkerTableTest, PlacesAsViewsOfEveryWorkerWould) {
  int n_placed = 0, n_refused = 0;
  for (uint32_t fleet_seed = 0; fleet_seed < 40; ++fleet_seed) {
    Fleet fleet(fleet_seed);
    // Some fleets outgrow one word of a set's bits, and two.
    const int n_changes = fleet_seed % 8 == 0 ? 4000 : 400;
    for (int i = 0; i < n_changes; ++i) {
      fleet.ChangeSomething();
      if (n_changes > 400 && i % 10 != 0) continue;
      PlacementOptions options;
      options.strict_serves = fleet.Below(4) == 0;
      options.stickiness_seconds = fleet.Below(3) == 0 ? 0.5 : 0.004;
      std::vector<PrefixKey> keys;
      const PlacementRequest request = fleet.ARequest(&keys);
      const auto views = fleet.Views(request);
      const auto expected = reference::Place(options, request, views);
      const auto placement = Placer::Create(options).value().Place(request, fleet.table(), fleet.now());
      ASSERT_EQ(placement.status(), expected.status());
      if (!placement.ok()) {
        ++n_refused;
        continue;
      }
      ++n_placed;
      ASSERT_EQ(placement->reason, expected->reason);
      ASSERT_EQ(placement->worker_id, expected->worker_id);
      ASSERT_EQ(placement->cost_seconds, expected->cost_seconds);
      ASSERT_EQ(placement->numerics_class_changed, expected->numerics_class_changed);
      ASSERT_EQ(fleet.table().id(placement->row), placement->worker_id);
    }
  }
  EXPECT_GT(n_placed, 5000);
  EXPECT_GT(n_refused, 100);
}

TEST(WorkerTableTest, AWorkerCannotFillTheGatewaysMemory) {
  WorkerTable table;
  const WorkerTable::Row row = table.Add("w");
  std::vector<uint32_t> warm;
  const std::vector<PrefixKey> keys = {1};
  for (const uint32_t kv_blocks : {10u, 5000u, 1'000'000u}) {  // follows the cache, within bounds
    const uint64_t limit = std::clamp<uint64_t>(kv_blocks, 4096, 262'144);
    WorkerTraits traits;
    traits.kv_blocks = kv_blocks;
    table.SetTraits(row, traits);
    for (uint64_t i = 0; i < limit; ++i) table.AddPrefix(row, i);
    EXPECT_EQ(table.n_prefixes(), limit);
    table.CountWarm(keys, &warm);
    EXPECT_EQ(warm[row], 1u);
    table.AddPrefix(row, limit);
    table.CountWarm(keys, &warm);
    EXPECT_EQ(warm[row], 0u);
    EXPECT_EQ(table.n_prefixes(), 0u);
  }
  for (size_t i = 0; i < WorkerTable::kMaxComing; ++i) {
    EXPECT_TRUE(table.Expect(row, Sha256(absl::StrCat(i)), MonotonicTime::Epoch()));
  }
  EXPECT_FALSE(table.Expect(row, Sha256("one more"), MonotonicTime::Epoch()));
  EXPECT_TRUE(table.Expect(row, Sha256("one more"), MonotonicTime::Epoch() + WorkerTable::kComingFor));
}

TEST(WorkerTableTest, ALargeFleetCannotFillTheGatewaysMemoryEither) {
  WorkerTable table(/*max_prefixes_in_all=*/100);
  const auto a = table.Add("a"), b = table.Add("b");
  for (uint64_t i = 0; i < 60; ++i) table.AddPrefix(a, i);
  for (uint64_t i = 0; i < 60; ++i) table.AddPrefix(b, i);
  EXPECT_EQ(table.n_prefixes(), 100u);
  std::vector<uint32_t> warm;
  std::vector<PrefixKey> keys;
  for (uint64_t i = 0; i < 60; ++i) keys.push_back(i);
  table.CountWarm(keys, &warm);
  EXPECT_EQ(warm[a], 60u);
  EXPECT_EQ(warm[b], 40u);
  table.Remove(a);  // its room is the other's
  for (uint64_t i = 0; i < 60; ++i) table.AddPrefix(b, i);
  table.CountWarm(keys, &warm);
  EXPECT_EQ(warm[b], 60u);
  EXPECT_EQ(table.n_prefixes(), 60u);
}

TEST(WorkerTableTest, ListsOfPatternsAreKeptOnce) {
  WorkerTable table;
  WorkerTraits traits;
  traits.serves = {"law-*"};
  const auto a = table.Add("a"), b = table.Add("b");
  table.SetTraits(a, traits);
  table.SetTraits(b, traits);
  EXPECT_EQ(table.at(a).serves, table.at(b).serves);
  EXPECT_TRUE(table.Serves(table.at(a).serves, "law-french"));
  EXPECT_FALSE(table.Serves(table.at(a).serves, "cooking"));
  for (int i = 0; i < 100; ++i) {  // a worker that says another list each time leaves nothing behind
    traits.serves = {absl::StrCat("list-", i)};
    table.SetTraits(a, traits);
    EXPECT_TRUE(table.Serves(table.at(a).serves, absl::StrCat("list-", i)));
    EXPECT_TRUE(table.Serves(table.at(b).serves, "law-french"));
  }
  EXPECT_EQ(table.n_serves(), 2u);
  table.Remove(a);
  table.Remove(b);
  EXPECT_EQ(table.Add("c"), a);
  EXPECT_EQ(table.at(a).serves, 0u);
}

}  // namespace
}  // namespace coterie
