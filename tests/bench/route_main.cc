// How long a routing decision takes and what a store of many experts costs. Prints one line of JSON per
// measurement.
//
//   bench_route [--store=EXPERTS]
//
// Beside each search stands what this machine reads from memory at that moment: an exact scan can do no
// better.
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <numeric>
#include <string>

#include "model/store/expert_store.h"
#include "router/routing_policy.h"
#include "tests/bench/harness.h"
#include "tests/model/store/store_testing.h"
#include "tests/router/router_testing.h"

namespace coterie {
namespace {

namespace fs = std::filesystem;
using bench::Measure;
using bench::MicrosecondsOf;
using bench::Times;
constexpr size_t kDim = 384;

double ReadBandwidth() {
  static const std::vector<uint64_t> words(size_t{32} << 20 >> 3, 1);  // 32 MiB
  volatile uint64_t sink = 0;
  const Times times =
      Measure([&] { sink = sink + std::accumulate(words.begin(), words.end(), uint64_t{0}); });
  return static_cast<double>(words.size() * 8) / times.best / 1e3;
}

std::vector<IndexedExpert> RandomExperts(size_t n, size_t n_prototypes, std::mt19937* random) {
  std::vector<IndexedExpert> experts;
  for (size_t i = 0; i < n; ++i) {
    std::vector<float> prototypes;
    for (size_t p = 0; p < n_prototypes; ++p) {
      const auto row = RandomUnit(kDim, random);
      prototypes.insert(prototypes.end(), row.begin(), row.end());
    }
    experts.push_back(MakeExpert("expert-" + std::to_string(i), std::move(prototypes)));
  }
  return experts;
}

void BenchSearch(size_t n, size_t n_prototypes) {
  std::mt19937 random(1);
  const auto experts = RandomExperts(n, n_prototypes, &random);
  std::shared_ptr<const ExpertIndex> index;
  const double build_us =
      MicrosecondsOf([&] { index = ExpertIndex::Create({.dim = kDim}, experts).value(); });
  const auto query = RandomUnit(kDim, &random);
  const Times search = Measure([&] { (void)index->Search(query, 5, nullptr).value(); });
  std::printf(
      "{\"bench\":\"index_search\",\"experts\":%zu,\"prototypes\":%zu,\"dim\":%zu,\"best_cpu_us\":%.1f,"
      "\"best_us\":%.1f,"
      "\"median_us\":%.1f,\"p90_us\":%.1f,\"memory_gb_per_second\":%.1f,\"build_ms\":%.1f}\n",
      n, n * n_prototypes, kDim, search.best_cpu, search.best, search.median, search.p90, ReadBandwidth(),
      build_us / 1e3);
  for (const char* name : {"nearest", "top_k", "adaptive_k"}) {
    RoutingOptions options;
    options.selection = ParseSelection(name).value();
    const auto policy = CreateRoutingPolicy(options).value();
    const Times route = Measure([&] { (void)policy->Route(*index, {.embedding = query}).value(); });
    std::printf(
        "{\"bench\":\"route\",\"policy\":\"%s\",\"experts\":%zu,\"prototypes\":%zu,\"best_us\":%.1f,"
        "\"median_us\":%.1f,\"p90_us\":%.1f}\n",
        name, n, n * n_prototypes, route.best, route.median, route.p90);
  }
}

// Publishes n small experts, then what a gateway or worker pays to open the store and to see one change.
void BenchStore(size_t n) {
  const fs::path folder = fs::temp_directory_path() / ("bench_route_" + std::to_string(::getpid()));
  std::vector<fs::path> sources;
  std::mt19937 random(3);
  for (size_t i = 0; i < n; ++i) {
    const std::string name = "expert-" + std::to_string(i);
    sources.push_back(folder / "sources" / name);
    WriteExpert(sources.back(),
                {.name = name, .weights = "weights of " + name, .prototypes = RandomUnit(3, &random)});
  }
  auto store = ExpertStore::Open(folder / "store", TestOptions()).value();
  size_t n_published = 0;
  const double publish_us = MicrosecondsOf([&] {
    for (const auto& result : store->PublishAll(sources)) n_published += result.ok();
  });
  std::unique_ptr<ExpertStore> reader;
  const double open_us = MicrosecondsOf([&] { reader = ExpertStore::Open(folder / "store", {}).value(); });
  const double prototypes_us = MicrosecondsOf([&] {
    for (const auto& entry : reader->Snapshot()->entries)
      (void)reader->ReadPrototypes(entry.live.revision).value();
  });
  const Times idle_poll = Measure([&] { (void)reader->Refresh().value(); });
  const double one_us = MicrosecondsOf([&] { (void)store->Remove("expert-0").value(); });
  const double refresh_us = MicrosecondsOf([&] { (void)reader->Refresh().value(); });
  std::printf(
      "{\"bench\":\"store\",\"experts\":%zu,\"publish_all_ms\":%.1f,\"open_ms\":%.1f,\"read_prototypes_ms\":%"
      ".1f,"
      "\"poll_unchanged_us\":%.1f,\"one_change_ms\":%.1f,\"poll_changed_ms\":%.1f}\n",
      n_published, publish_us / 1e3, open_us / 1e3, prototypes_us / 1e3, idle_poll.median, one_us / 1e3,
      refresh_us / 1e3);
  fs::remove_all(folder);
}

}  // namespace
}  // namespace coterie

int main(int argc, char** argv) {
  uint64_t n_store = 1000;
  coterie::FlagSet flags("bench_route", "Routing and a store of many experts.");
  flags.Int("store", &n_store, 1, 1'000'000, "EXPERTS", "how many are published");
  return coterie::bench::Main(&flags, argc, argv, [&] {
    coterie::BenchSearch(10, 8);
    coterie::BenchSearch(1000, 1);
    coterie::BenchSearch(1000, 8);
    coterie::BenchSearch(10'000, 1);
    coterie::BenchSearch(10'000, 8);
    coterie::BenchStore(n_store);
    return absl::OkStatus();
  });
}
