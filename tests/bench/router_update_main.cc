// What one publication costs a router that knows many experts, and what memory its index takes. Prints one
// line of JSON per size.
//
//   bench_router_update                   1,000, 10,000 and 100,000 experts (the last take 0.8 GB)
//   bench_router_update --experts=5000
//
// Each expert has four prototypes of 384 values and two domains. Best CPU times are of the thread. Memory is
// what the process holds more than before, over the size of the prototypes in float.
#include <algorithm>
#include <cstdio>
#include <random>
#include <string>
#include <vector>

#include "common/allocator.h"
#include "router/expert_index.h"
#include "tests/bench/harness.h"
#include "tests/router/router_testing.h"

namespace coterie::bench {
namespace {

constexpr size_t kDim = 384;
constexpr size_t kPrototypes = 4;
constexpr size_t kDomains = 500;
constexpr size_t kAtOnce = 1000;  // experts of one change while the index is filled: they are held twice

IndexedExpert RandomExpert(size_t i, std::mt19937* random) {
  std::vector<float> prototypes;
  prototypes.reserve(kPrototypes * kDim);
  for (size_t p = 0; p < kPrototypes; ++p) {
    const auto row = RandomUnit(kDim, random);
    prototypes.insert(prototypes.end(), row.begin(), row.end());
  }
  return MakeExpert("expert-" + std::to_string(1'000'000 + i), std::move(prototypes),
                    {"domain-" + std::to_string((*random)() % kDomains), "all"});
}

Status Bench(size_t n) {
  std::mt19937 random(1);
  ReturnFreeMemory();
  const double before_mb = ResidentMb();
  ASSIGN_OR_RETURN(auto index, ExpertIndex::Create({.dim = kDim, .max_experts = n + 1000}, {}));
  for (size_t i = 0; i < n; i += kAtOnce) {
    ExpertIndex::Change change;
    for (size_t k = i; k < std::min(n, i + kAtOnce); ++k) change.put.push_back(RandomExpert(2 * k, &random));
    ASSIGN_OR_RETURN(index, index->With(std::move(change)));
  }
  ReturnFreeMemory();
  const double prototypes_mb = static_cast<double>(n * kPrototypes * kDim * sizeof(float)) / 1e6;
  const double index_mb = ResidentMb() - before_mb;

  // Publications come one after the other, each upon the one before: new names, other prototypes of a name
  // that is there, and names that go.
  Status failed;
  const auto publish = [&](ExpertIndex::Change change) {
    auto next = index->With(std::move(change));
    if (next.ok()) {
      index = *std::move(next);
    } else {
      failed = next.status();
    }
  };
  std::vector<IndexedExpert> made;
  for (size_t i = 0; i < 64; ++i) made.push_back(RandomExpert(2 * (random() % n) + (i % 2), &random));
  size_t k = 0;
  const Times put = Measure([&] { publish({.put = {made[++k % made.size()]}}); });
  // One that goes and comes again: two generations.
  const Times remove = Measure([&] {
    const IndexedExpert& expert = made[++k % made.size()];
    publish({.removed = {expert.name}});
    publish({.put = {expert}});
  });
  RETURN_IF_ERROR(failed);
  // A search of a generation that was followed by thousands is as good as any.
  const auto query = RandomUnit(kDim, &random);
  const Times search = Measure([&] { (void)index->Search(query, 5, nullptr).value(); });
  const Times domain = Measure([&] { (void)index->WithDomain("domain-7"); });
  std::printf(
      "{\"bench\":\"router_update\",\"experts\":%zu,\"prototypes\":%zu,\"publish_best_cpu_ms\":%.3f,"
      "\"publish_median_ms\":%.3f,\"publish_p90_ms\":%.3f,\"remove_and_publish_best_cpu_ms\":%.3f,"
      "\"search_best_cpu_ms\":%.3f,\"domain_best_cpu_ms\":%.3f,\"prototypes_mb\":%.1f,"
      "\"index_mb\":%.1f,\"memory_ratio\":%.3f}\n",
      n, n * kPrototypes, put.best_cpu / 1e3, put.median / 1e3, put.p90 / 1e3, remove.best_cpu / 1e3,
      search.best_cpu / 1e3, domain.best_cpu / 1e3, prototypes_mb, index_mb, index_mb / prototypes_mb);
  std::fflush(stdout);
  return absl::OkStatus();
}

}  // namespace
}  // namespace coterie::bench

int main(int argc, char** argv) {
  coterie::BoundAllocator();  // as the gateway
  uint64_t n_experts = 0;
  coterie::FlagSet flags("bench_router_update", "Publishing one expert among many.");
  flags.Int("experts", &n_experts, 0, 100'000, "N", "of the only index; 0: 1,000, 10,000 and 100,000");
  return coterie::bench::Main(&flags, argc, argv, [&]() -> coterie::Status {
    if (n_experts > 0) return coterie::bench::Bench(n_experts);
    for (const size_t n : {1000, 10'000, 100'000}) RETURN_IF_ERROR(coterie::bench::Bench(n));
    return absl::OkStatus();
  });
}
