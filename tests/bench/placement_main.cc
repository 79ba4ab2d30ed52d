// What choosing a worker costs, and what a worker's messages cost the table that it is chosen from. Prints
// one line of JSON per case.
//
//   bench_placement                 fleets of 16, 256 and 1,000 workers
//   bench_placement --workers=64
//
// Beside each placement over the table stands the same decision over views made anew of every worker
// (tests/router/placement_reference), in turn with it, so that a neighbour on the machine disturbs both
// alike. Best CPU times are of the thread, over all runs.
#include <algorithm>
#include <cstdio>
#include <random>
#include <string>
#include <vector>

#include "router/placement.h"
#include "router/worker_table.h"
#include "tests/bench/harness.h"
#include "tests/router/placement_reference.h"
#include "tests/router/worker_views.h"

namespace coterie::bench {
namespace {

constexpr size_t kPromptBlocks = 512;  // 8,192 tokens
constexpr size_t kSharedBlocks = 64;   // of a system prompt that every worker has warm

struct Case {
  const char* name;
  const char* expert;  // which adapter
  uint32_t n_prompt_tokens;
};
constexpr Case kCases[] = {
    {"cold", "nowhere", 64}, {"resident", "on a quarter", 64}, {"long_prompt", "on a quarter", 8192}};

// A fleet in a table and, for the comparison, as every worker's own sets.
class Fleet {
 public:
  explicit Fleet(size_t n_workers) {
    std::mt19937_64 random(2);
    for (PrefixKey key = 1; key <= kPromptBlocks; ++key) prompt_.push_back(key);
    for (size_t i = 0; i < n_workers; ++i) {
      Worker worker;
      worker.view.id = "worker-" + std::to_string(i);
      worker.view.base = Sha256("base");
      worker.view.numerics_class = "avx2/fast/3";
      worker.view.adapter_slots_total = worker.view.adapter_slots_taken = 64;
      worker.view.kv_blocks_total = worker.view.kv_blocks_free = 4096;
      worker.view.running = random() % 16;
      worker.view.max_running = 32;
      worker.resident.insert(Sha256("adapter " + std::to_string(random() % 1000)));
      if (random() % 4 == 0) worker.resident.insert(Sha256("on a quarter"));
      const size_t n_warm = random() % 16 == 0 ? random() % kPromptBlocks : kSharedBlocks;
      worker.prefixes.insert(prompt_.begin(), prompt_.begin() + static_cast<ptrdiff_t>(n_warm));
      for (int k = 0; k < 1000; ++k) worker.prefixes.insert(random());
      workers_.push_back(std::move(worker));
      AddToTable(workers_.back());
    }
  }

  PlacementRequest RequestOf(const Case& what) const {
    PlacementRequest request;
    request.adapters = {{.name = "expert", .digest = Sha256(what.expert), .n_bytes = 2'000'000}};
    request.base = Sha256("base");
    request.prefix_keys = std::span(prompt_).first(what.n_prompt_tokens / 16);
    request.n_prompt_tokens = what.n_prompt_tokens;
    request.max_new_tokens = 256;
    return request;
  }

  WorkerTable* table() { return &table_; }

  std::vector<reference::WorkerView> Views(const PlacementRequest& request) const {
    std::vector<reference::WorkerView> views;
    views.reserve(workers_.size());
    for (const Worker& worker : workers_) {
      reference::WorkerView view = worker.view;
      for (const auto& adapter : request.adapters) {
        if (worker.resident.contains(adapter.digest)) view.resident.insert(adapter.digest);
      }
      while (view.warm_blocks < request.prefix_keys.size() &&
             worker.prefixes.contains(request.prefix_keys[view.warm_blocks])) {
        ++view.warm_blocks;
      }
      views.push_back(std::move(view));
    }
    return views;
  }

 private:
  struct Worker {
    reference::WorkerView view;
    absl::flat_hash_set<Digest> resident;
    absl::flat_hash_set<PrefixKey> prefixes;
  };

  void AddToTable(const Worker& worker) {
    const WorkerTable::Row row = table_.Add(worker.view.id);
    table_.SetTraits(row, TraitsOf(worker.view));
    WorkerRow& numbers = table_.at(row);
    numbers.alive_until = MonotonicTime::InfiniteFuture();
    numbers.running = worker.view.running;
    numbers.kv_blocks_free = worker.view.kv_blocks_free;
    numbers.adapters_resident = worker.view.adapter_slots_taken;
    for (const Digest& digest : worker.resident) table_.AddResident(row, digest);
    for (const PrefixKey key : worker.prefixes) table_.AddPrefix(row, key);
  }

  std::vector<PrefixKey> prompt_;
  std::vector<Worker> workers_;
  WorkerTable table_;
};

Status BenchPlacement(const Case& what, size_t n_workers, Fleet* fleet) {
  const PlacementOptions options;
  ASSIGN_OR_RETURN(const Placer placer, Placer::Create(options));
  const PlacementRequest request = fleet->RequestOf(what);
  ASSIGN_OR_RETURN(const Placement placement, placer.Place(request, *fleet->table(), MonotonicNow()));
  ASSIGN_OR_RETURN(const auto expected, reference::Place(options, request, fleet->Views(request)));
  if (placement.reason != expected.reason) {
    return absl::InternalError(absl::StrCat("placed at ", placement.reason, "; views say ", expected.reason));
  }
  // The clock of the thread's CPU time is too coarse for one placement among few workers.
  const size_t n_at_once = std::max<size_t>(1, 4000 / n_workers);
  const auto n = static_cast<double>(n_at_once);
  const Times times = Measure(
      [&] {
        for (size_t i = 0; i < n_at_once; ++i) {
          (void)placer.Place(request, *fleet->table(), MonotonicNow()).value();
        }
      },
      200);
  double views_best_cpu = 1e18;
  for (int run = 0; run < 20; ++run) {
    const double cpu = ThreadCpuMicroseconds();
    for (size_t i = 0; i < n_at_once; ++i) {
      (void)reference::Place(options, request, fleet->Views(request)).value();
    }
    views_best_cpu = std::min(views_best_cpu, ThreadCpuMicroseconds() - cpu);
  }
  std::printf(
      "{\"bench\":\"placement\",\"case\":\"%s\",\"workers\":%zu,\"best_cpu_us\":%.2f,\"best_us\":%.2f,"
      "\"median_us\":%.2f,\"p90_us\":%.2f,\"views_best_cpu_us\":%.1f}\n",
      what.name, n_workers, times.best_cpu / n, times.best / n, times.median / n, times.p90 / n,
      views_best_cpu / n);
  return absl::OkStatus();
}

// What a message of a worker changes: numbers, one adapter for another, sixteen new blocks for sixteen old.
void BenchMessages(size_t n_workers, Fleet* fleet) {
  WorkerTable* table = fleet->table();
  std::mt19937_64 random(3);
  uint64_t n = 0;
  std::vector<PrefixKey> keys(16);
  const Digest adapter = Sha256("coming and going");
  const auto row = static_cast<WorkerTable::Row>(n_workers / 2);
  const Times numbers = Measure(
      [&] {
        for (int i = 0; i < 100; ++i) {
          WorkerRow& r = table->at(static_cast<WorkerTable::Row>(random() % n_workers));
          r.running = static_cast<uint32_t>(++n % 16);
          r.kv_blocks_free = static_cast<uint32_t>(n % 4096);
          r.alive_until = MonotonicTime::InfiniteFuture();
        }
      },
      200);
  const Times changes = Measure(
      [&] {
        for (int i = 0; i < 20; ++i) {
          table->RemoveResident(row, adapter);
          table->AddResident(row, adapter);
          for (const PrefixKey key : keys) table->RemovePrefix(row, key);
          for (PrefixKey& key : keys) table->AddPrefix(row, key = random());
        }
      },
      200);
  std::printf(
      "{\"bench\":\"placement\",\"case\":\"message\",\"workers\":%zu,\"best_cpu_us\":%.3f,\"best_us\":%.3f,"
      "\"median_us\":%.3f,\"p90_us\":%.3f}\n",
      n_workers, numbers.best_cpu / 100, numbers.best / 100, numbers.median / 100, numbers.p90 / 100);
  std::printf(
      "{\"bench\":\"placement\",\"case\":\"message_with_changes\",\"workers\":%zu,\"best_cpu_us\":%.2f,"
      "\"best_us\":%.2f,\"median_us\":%.2f,\"p90_us\":%.2f}\n",
      n_workers, changes.best_cpu / 20, changes.best / 20, changes.median / 20, changes.p90 / 20);
}

Status Bench(size_t n_workers) {
  Fleet fleet(n_workers);
  for (const Case& what : kCases) RETURN_IF_ERROR(BenchPlacement(what, n_workers, &fleet));
  BenchMessages(n_workers, &fleet);
  return absl::OkStatus();
}

}  // namespace
}  // namespace coterie::bench

int main(int argc, char** argv) {
  uint64_t n_workers = 0;
  coterie::FlagSet flags("bench_placement", "Choosing a worker of a fleet, and following its messages.");
  flags.Int("workers", &n_workers, 0, 100'000, "N", "of the only fleet; 0: fleets of 16, 256 and 1,000");
  return coterie::bench::Main(&flags, argc, argv, [&]() -> coterie::Status {
    if (n_workers > 0) return coterie::bench::Bench(n_workers);
    for (const size_t n : {16, 256, 1000}) RETURN_IF_ERROR(coterie::bench::Bench(n));
    return absl::OkStatus();
  });
}
