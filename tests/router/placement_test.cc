#include "router/placement.h"

#include <algorithm>
#include <map>
#include <random>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/router/worker_views.h"

namespace coterie {
namespace {

using reference::WorkerView;

using ::testing::HasSubstr;

const Digest kBase = Sha256("base");

WorkerView MakeWorker(std::string id) {
  WorkerView worker;
  worker.id = std::move(id);
  worker.base = kBase;
  worker.numerics_class = "avx512-fast";
  worker.max_running = 16;
  worker.kv_blocks_free = worker.kv_blocks_total = 1000;
  worker.adapter_slots_total = 8;
  return worker;
}

std::vector<WorkerView> MakeWorkers(size_t n) {
  std::vector<WorkerView> workers;
  for (size_t i = 0; i < n; ++i) workers.push_back(MakeWorker("w" + std::to_string(i)));
  return workers;
}

PlacementRequest ForExpert(std::string name) {
  PlacementRequest request;
  request.adapters.push_back({.name = name, .digest = Sha256(name), .n_bytes = 2'000'000});
  request.base = kBase;
  request.n_prompt_tokens = 100;
  request.max_new_tokens = 100;
  return request;
}

StatusOr<Placement> TryPlace(const PlacementRequest& request, std::span<const WorkerView> workers,
                             PlacementOptions options = {}) {
  const Placer placer = Placer::Create(options).value();
  return placer.Place(request, TableOf(workers, request.prefix_keys), kPlacingTime);
}

Placement Place(const PlacementRequest& request, std::span<const WorkerView> workers,
                PlacementOptions options = {}) {
  const auto placement = TryPlace(request, workers, options);
  EXPECT_TRUE(placement.ok()) << placement.status();
  return placement.ok() ? *placement : Placement();
}

std::string Refusal(const PlacementRequest& request, std::span<const WorkerView> workers,
                    PlacementOptions options = {}) {
  const auto placement = TryPlace(request, workers, options);
  EXPECT_EQ(placement.status().code(), absl::StatusCode::kUnavailable);
  return std::string(ToStd(placement.status().message()));
}

TEST(PlacementTest, AResidentAdapterWinsOverAnyColdWorker) {
  for (size_t holder = 0; holder < 4; ++holder) {
    auto workers = MakeWorkers(4);
    workers[holder].resident.insert(Sha256("python"));
    const Placement placement = Place(ForExpert("python"), workers);
    EXPECT_EQ(placement.row, holder);
    EXPECT_THAT(placement.reason, HasSubstr("adapter resident, 0 running, 0 waiting, cost 0.100 s; next w"));
  }
}

TEST(PlacementTest, AnAdapterOnItsWayBeatsAColdOne) {
  for (size_t holder = 0; holder < 4; ++holder) {
    auto workers = MakeWorkers(4);
    workers[holder].loading.insert(Sha256("python"));
    EXPECT_EQ(Place(ForExpert("python"), workers).row, holder);
  }
}

TEST(PlacementTest, ALongQueueOutweighsAColdLoad) {
  auto workers = MakeWorkers(2);
  workers[0].resident.insert(Sha256("python"));
  workers[0].running = 16;
  workers[0].waiting = 3;
  EXPECT_EQ(Place(ForExpert("python"), workers).worker_id, "w1");
}

TEST(PlacementTest, AnExpensiveLoadOutweighsAFewNeighbours) {
  auto workers = MakeWorkers(2);
  workers[0].resident.insert(Sha256("python"));
  workers[0].running = 2;
  PlacementRequest request = ForExpert("python");
  request.adapters[0].n_bytes = 400'000'000;  // two seconds
  EXPECT_EQ(Place(request, workers).worker_id, "w0");
}

TEST(PlacementTest, AWarmPrefixSavesItsPrefill) {
  for (size_t holder = 0; holder < 3; ++holder) {
    auto workers = MakeWorkers(3);
    const std::vector<PrefixKey> keys = {11, 12, 13, 14};
    workers[holder].warm_blocks = 3;
    workers[(holder + 1) % 3].warm_blocks = 2;
    PlacementRequest request;
    request.base = kBase;
    request.n_prompt_tokens = 70;
    request.prefix_keys = keys;
    const Placement placement = Place(request, workers);
    EXPECT_EQ(placement.row, holder);
    EXPECT_THAT(placement.reason, HasSubstr("48 of 70 prompt tokens warm, cost 0.022 s"));
  }
}

TEST(PlacementTest, AFreeSlotIsBetterThanEvictingAnAdapter) {
  for (size_t full = 0; full < 2; ++full) {
    auto workers = MakeWorkers(2);
    workers[full].adapter_slots_taken = 8;
    EXPECT_EQ(Place(ForExpert("python"), workers).row, 1 - full);
  }
}

TEST(PlacementTest, FewFreeBlocksCountAsAQueue) {
  for (size_t full = 0; full < 2; ++full) {
    auto workers = MakeWorkers(2);
    workers[full].running = 4;
    workers[full].kv_blocks_free = 2;  // the prompt needs 7
    workers[1 - full].running = 6;
    EXPECT_EQ(Place(ForExpert("python"), workers).row, 1 - full);
  }
}

TEST(PlacementTest, ResumingPrefersTheSameNumericsClassWhateverItCosts) {
  auto workers = MakeWorkers(3);
  workers[0].numerics_class = workers[1].numerics_class = "avx2-fast";
  workers[0].resident.insert(Sha256("python"));
  workers[2].waiting = 5;
  PlacementRequest request = ForExpert("python");
  request.numerics_class = "avx512-fast";
  const Placement same = Place(request, workers);
  EXPECT_EQ(same.worker_id, "w2");
  EXPECT_FALSE(same.numerics_class_changed);

  workers[2].alive = false;
  const Placement other = Place(request, workers);
  EXPECT_EQ(other.worker_id, "w0");
  EXPECT_TRUE(other.numerics_class_changed);
  EXPECT_THAT(other.reason, HasSubstr("numerics class avx2-fast instead of avx512-fast"));
}

TEST(PlacementTest, WorkersThatServeTheExpertComeFirst) {
  auto workers = MakeWorkers(2);
  workers[0].serves = {"law"};
  workers[0].resident.insert(Sha256("python"));
  workers[1].serves = {"python"};
  workers[1].waiting = 2;
  EXPECT_EQ(Place(ForExpert("python"), workers).worker_id, "w1");
  workers[1].alive = false;
  EXPECT_THAT(Place(ForExpert("python"), workers).reason, HasSubstr("outside its share of experts"));
  EXPECT_EQ(Refusal(ForExpert("python"), workers, {.strict_serves = true}),
            "no worker can take this request: w0 does not serve this expert; w1 does not answer");
  PlacementRequest base;
  base.base = kBase;
  EXPECT_EQ(Place(base, workers, {.strict_serves = true}).worker_id, "w0");
}

TEST(PlacementTest, AnAnswerLongerThanAnyCacheIsStillPlaced) {
  auto workers = MakeWorkers(2);  // room for 16,000 tokens each
  PlacementRequest request = ForExpert("python");
  request.max_new_tokens = 100'000;
  const Placement placement = Place(request, workers);
  EXPECT_THAT(placement.reason, HasSubstr("room for 15900 of 100000 answer tokens"));
}

TEST(PlacementTest, InAMixedFleetAnAnswerGoesWhereItFits) {
  for (size_t large = 0; large < 3; ++large) {
    auto workers = MakeWorkers(3);
    for (WorkerView& worker : workers) {
      worker.max_sequence_tokens = 150;
      worker.resident.insert(Sha256("python"));
    }
    // Cold and with a queue: cutting the answer short would be worse.
    workers[large].max_sequence_tokens = 0;
    workers[large].resident.clear();
    workers[large].waiting = 3;
    EXPECT_EQ(Place(ForExpert("python"), workers).row, large);
    // What fits everywhere stays off the large one.
    PlacementRequest shorter = ForExpert("python");
    shorter.max_new_tokens = 50;
    EXPECT_NE(Place(shorter, workers).row, large);
    // And what fits nowhere goes where most of it does.
    PlacementRequest longer = ForExpert("python");
    longer.max_new_tokens = 1'000'000;
    EXPECT_EQ(Place(longer, workers).row, large);
    // With the large one gone the answer ends early rather than never.
    workers[large].alive = false;
    EXPECT_THAT(Place(ForExpert("python"), workers).reason, HasSubstr("room for 50 of 100 answer tokens"));
  }
}

TEST(PlacementTest, CachesThatDifferByALittleShareTheLongestAnswers) {
  auto workers = MakeWorkers(2);
  workers[0].kv_blocks_total = 1010;
  PlacementRequest request = ForExpert("python");
  request.max_new_tokens = 1'000'000;
  workers[1].resident.insert(Sha256("python"));
  EXPECT_EQ(Place(request, workers).worker_id, "w1");
  workers[1].kv_blocks_total = 700;
  EXPECT_EQ(Place(request, workers).worker_id, "w0");
}

TEST(PlacementTest, APromptThatFitsNowhereIsRefusedForGoodWithItsLimits) {
  auto workers = MakeWorkers(3);
  workers[0].max_sequence_tokens = 100;
  workers[1].kv_blocks_total = 4;
  workers[1].alive = false;   // when it comes back it is as small
  workers[2] = WorkerView();  // refused: of another base
  workers[2].id = "w2";
  workers[2].alive = false;
  workers[2].refused = true;
  const auto placement = TryPlace(ForExpert("python"), workers);
  EXPECT_EQ(placement.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(
      placement.status().message(),
      "the prompt has 100 tokens and no worker has room for it: at most 100 tokens of prompt and answer "
      "together; shorten the prompt to 99 tokens or fewer, or start a worker with more (--kv-tokens, "
      "--max-context)");
  // One token less leaves room for one.
  PlacementRequest shorter = ForExpert("python");
  shorter.n_prompt_tokens = 99;
  EXPECT_EQ(Place(shorter, workers).worker_id, "w0");
  // While one that may be larger is away, or was never heard, there is hope.
  workers[2].refused = false;
  EXPECT_THAT(Refusal(ForExpert("python"), workers),
              HasSubstr("w0 has room for 100 tokens, the prompt has 100"));
  workers[2] = MakeWorker("w2");
  workers[2].draining = true;
  EXPECT_THAT(Refusal(ForExpert("python"), workers), HasSubstr("w2 is draining"));
}

TEST(PlacementTest, MoreAdaptersThanAnyWorkerHasSlotsAreRefusedForGood) {
  auto workers = MakeWorkers(2);
  for (WorkerView& worker : workers) worker.adapter_slots_total = 1;
  PlacementRequest request = ForExpert("python");
  request.adapters.push_back({.name = "law", .digest = Sha256("law")});
  const auto placement = TryPlace(request, workers);
  EXPECT_EQ(placement.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(placement.status().message()),
              HasSubstr("combines 2 adapters and no worker has more than 1 adapter slots"));
}

TEST(PlacementTest, AnEjectedWorkerIsTheLastResortUnlessMostAreEjected) {
  for (size_t flapping = 0; flapping < 3; ++flapping) {
    auto workers = MakeWorkers(3);
    workers[flapping].ejected = true;
    workers[flapping].resident.insert(Sha256("python"));
    for (size_t i = 0; i < 3; ++i) {
      if (i != flapping) workers[i].waiting = 5;
    }
    EXPECT_NE(Place(ForExpert("python"), workers).row, flapping);
    // The only one with the numerics class goes on bit for bit, ejected or not.
    PlacementRequest resumed = ForExpert("python");
    resumed.numerics_class = workers[flapping].numerics_class = "avx2-fast";
    EXPECT_EQ(Place(resumed, workers).row, flapping);
    // When the others are gone it serves.
    for (size_t i = 0; i < 3; ++i) workers[i].alive = i == flapping;
    EXPECT_EQ(Place(ForExpert("python"), workers).row, flapping);
    // Two of three failing points at something else.
    for (WorkerView& worker : workers) worker.alive = true;
    workers[(flapping + 1) % 3].ejected = true;
    EXPECT_EQ(Place(ForExpert("python"), workers).row, flapping);
  }
}

TEST(PlacementTest, EveryUnfitWorkerIsNamedWithItsReason) {
  auto workers = MakeWorkers(7);
  workers[0].alive = false;
  workers[1].draining = true;
  workers[2].base = Sha256("another base");
  workers[3].adapter_slots_total = 0;
  workers[4].kv_blocks_total = 6;
  PlacementRequest request = ForExpert("python");
  request.exclude = {"w5", "w6"};
  EXPECT_EQ(
      Refusal(request, workers),
      absl::StrCat(
          "no worker can take this request: w0 does not answer; w1 is draining; w2 has base ",
          Sha256("another base").Short(), ", the request needs ", kBase.Short(),
          "; w3 has 0 adapter slots, the request needs 1; w4 has room for 96 tokens, the prompt has 100; "
          "w5 just failed this request; w6 just failed this request"));
  EXPECT_EQ(Refusal(request, {}), "no worker can take this request: none is known");
  auto many = MakeWorkers(30);
  for (WorkerView& worker : many) worker.alive = false;
  EXPECT_THAT(Refusal(request, many), HasSubstr("; and 14 more"));
}

PlacementRequest ForMixture(const std::vector<std::string>& names) {
  PlacementRequest request = ForExpert(names[0]);
  for (size_t i = 1; i < names.size(); ++i) request.adapters.push_back(ForExpert(names[i]).adapters[0]);
  request.n_rows = static_cast<uint32_t>(names.size());
  return request;
}

TEST(PlacementTest, AMixtureGoesToAWorkerThatTakesAllItsMembers) {
  auto workers = MakeWorkers(3);
  workers[1].max_mixture_members = 3;
  workers[2].max_mixture_members = 2;
  EXPECT_EQ(Place(ForMixture({"a", "b", "c"}), workers).worker_id, "w1");
  const auto refused = TryPlace(ForMixture({"a", "b", "c", "d"}), workers);
  EXPECT_EQ(refused.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(
      refused.status().message(),
      "the request mixes 4 experts and no worker mixes more than 3; ask for fewer, or start workers with "
      "more (--max-seqs)");
  workers[1].alive = false;  // it may come back
  EXPECT_EQ(Refusal(ForMixture({"a", "b", "c"}), workers),
            "no worker can take this request: w0 mixes at most 0 experts, the request has 3; w1 does not "
            "answer; w2 "
            "mixes at most 2 experts, the request has 3");
}

TEST(PlacementTest, TheMembersOfAMixtureShareTheRoomAndEachReadsThePrompt) {
  auto workers = MakeWorkers(2);
  for (WorkerView& worker : workers) worker.max_mixture_members = 8;
  workers[0].kv_blocks_free = workers[0].kv_blocks_total = 20;  // 320 tokens: 100 for each of three members
  PlacementRequest request = ForMixture({"a", "b", "c"});
  EXPECT_EQ(Place(request, workers).room_tokens, 333u * 16) << "w1";
  EXPECT_EQ(Place(ForExpert("a"), std::span(workers).first(1)).room_tokens, 320u);
  workers[1].kv_blocks_free = workers[1].kv_blocks_total = 20;
  const auto refused = TryPlace(request, workers);
  EXPECT_EQ(refused.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(refused.status().message()),
              HasSubstr("no worker has room for it: at most 96 tokens"));
  workers = MakeWorkers(1);
  workers[0].max_mixture_members = 8;
  PlacementRequest one_row = request;
  one_row.n_rows = 1;
  const double of_one = Place(one_row, workers).cost_seconds;
  EXPECT_NEAR(Place(request, workers).cost_seconds - of_one, 2 * 100 / 1000.0, 1e-9) << "two prompts more";
}

std::map<std::string, std::string> Homes(std::span<const WorkerView> workers, size_t n_experts) {
  std::map<std::string, std::string> homes;
  for (size_t i = 0; i < n_experts; ++i) {
    const std::string name = "expert-" + std::to_string(i);
    homes[name] = Place(ForExpert(name), workers).worker_id;
  }
  return homes;
}

TEST(PlacementTest, ColdExpertsSpreadEvenlyOverIdleWorkers) {
  std::map<std::string, int> counts;
  for (const auto& [expert, worker] : Homes(MakeWorkers(8), 2000)) ++counts[worker];
  ASSERT_EQ(counts.size(), 8u);
  // 250 expected; the standard deviation of a fair draw is 15.
  for (const auto& [worker, count] : counts) EXPECT_NEAR(count, 250, 75) << worker;
}

TEST(PlacementTest, AWorkerThatGoesMovesOnlyItsOwnExperts) {
  auto workers = MakeWorkers(8);
  const auto before = Homes(workers, 500);
  workers[3].alive = false;
  const auto after = Homes(workers, 500);
  for (const auto& [expert, worker] : before) {
    if (worker != "w3") {
      EXPECT_EQ(after.at(expert), worker) << expert;
    }
  }
}

TEST(PlacementTest, RequestsWithoutAHomeSpreadByTheirSeed) {
  const auto workers = MakeWorkers(4);
  std::map<std::string, int> counts;
  for (uint64_t seed = 0; seed < 400; ++seed) {
    PlacementRequest request;
    request.base = kBase;
    request.seed = seed;
    ++counts[Place(request, workers).worker_id];
  }
  ASSERT_EQ(counts.size(), 4u);
  for (const auto& [worker, count] : counts) EXPECT_GT(count, 60) << worker;
}

WorkerView RandomWorker(size_t i, std::mt19937* random) {
  const auto below = [&](uint32_t n) { return static_cast<uint32_t>((*random)() % n); };
  WorkerView worker = MakeWorker("w" + std::to_string(i));
  worker.alive = below(8) > 0;
  worker.draining = below(8) == 0;
  worker.running = below(20);
  worker.waiting = below(3) == 0 ? below(10) : 0;
  worker.kv_blocks_total = below(200);
  worker.kv_blocks_free = below(worker.kv_blocks_total + 1);
  worker.adapter_slots_total = below(5);
  worker.numerics_class = below(2) == 0 ? "a" : "b";
  worker.prefill_tokens_per_second = below(10) == 0 ? 0 : below(5000);
  worker.decode_tokens_per_second = below(10) == 0 ? NAN : below(500);
  for (uint32_t n = below(4); n > 0; --n) worker.resident.insert(Sha256("e" + std::to_string(below(6))));
  for (uint32_t n = below(3); n > 0; --n) worker.serves.insert("e" + std::to_string(below(6)));
  worker.adapter_slots_taken = below(6);
  worker.warm_blocks = below(3);
  worker.max_sequence_tokens = below(3) == 0 ? below(3000) : 0;
  worker.ejected = below(4) == 0;
  return worker;
}

// Over random clusters: the choice is fit, of the best tier, within the stickiness of the cheapest, and does
// not depend on the order in which the workers are listed.
TEST(PlacementTest, HoldsItsPropertiesOnRandomClusters) {
  std::mt19937 random(3);
  const PlacementOptions options;
  int n_placed = 0;
  for (int round = 0; round < 3000; ++round) {
    std::vector<WorkerView> workers;
    for (size_t i = 0; i < 1 + random() % 8; ++i) workers.push_back(RandomWorker(i, &random));
    PlacementRequest request = ForExpert("e" + std::to_string(random() % 6));
    if (random() % 4 == 0) request.adapters.clear();
    request.n_prompt_tokens = random() % 1000;
    request.seed = random();
    if (random() % 2 == 0) request.numerics_class = "a";
    const std::vector<PrefixKey> keys = {random(), random()};
    request.prefix_keys = keys;
    const auto placement = TryPlace(request, workers);
    std::vector<WorkerView> shuffled = workers;
    std::shuffle(shuffled.begin(), shuffled.end(), random);
    const auto again = TryPlace(request, shuffled);
    ASSERT_EQ(placement.status(), again.status());
    if (!placement.ok()) continue;
    ++n_placed;
    EXPECT_EQ(placement->worker_id, again->worker_id);
    const WorkerView& chosen = workers[placement->row];
    EXPECT_EQ(chosen.id, placement->worker_id);
    EXPECT_TRUE(chosen.alive && !chosen.draining);
    const auto room = [&](const WorkerView& w) {
      uint32_t tokens = w.kv_blocks_total * 16;
      if (w.max_sequence_tokens > 0) tokens = std::min(tokens, w.max_sequence_tokens);
      return std::min(tokens - request.n_prompt_tokens, request.max_new_tokens);
    };
    EXPECT_GT(room(chosen), 0u);
    const auto ranking = reference::Place(options, request, workers).value().ranking;
    ASSERT_EQ(ranking.size(), workers.size());
    bool same_class_was_fit = false;
    size_t n_fit = 0, n_ejected = 0;
    uint32_t most_room = 0;
    for (const reference::Ranked& ranked : ranking) {
      if (!ranked.fit) continue;
      ++n_fit;
      n_ejected += workers[ranked.worker].ejected;
      most_room = std::max(most_room, room(workers[ranked.worker]));
    }
    const uint32_t enough = most_room == request.max_new_tokens ? most_room : most_room - most_room / 8;
    EXPECT_GE(room(chosen), enough);
    for (const reference::Ranked& ranked : ranking) {
      if (!ranked.fit) continue;
      EXPECT_TRUE(std::isfinite(ranked.cost_seconds) && ranked.cost_seconds >= 0) << ranked.words;
      const WorkerView& worker = workers[ranked.worker];
      if (room(worker) < enough) continue;
      if (worker.numerics_class == request.numerics_class) same_class_was_fit = true;
      const auto serves = [&](const WorkerView& w) {
        return w.serves.empty() || request.adapters.empty() || w.serves.contains(request.adapters[0].name);
      };
      const bool ejections_count = 2 * n_ejected <= n_fit;
      if (worker.numerics_class == chosen.numerics_class && serves(worker) == serves(chosen) &&
          (!ejections_count || worker.ejected == chosen.ejected)) {
        EXPECT_LE(placement->cost_seconds, ranked.cost_seconds + options.stickiness_seconds);
      }
    }
    EXPECT_EQ(placement->numerics_class_changed, !request.numerics_class.empty() && !same_class_was_fit);
  }
  EXPECT_GT(n_placed, 1000);
}

// Making the chosen worker better never loses it the request.
TEST(PlacementTest, AnImprovedWorkerStaysChosen) {
  std::mt19937 random(4);
  for (int round = 0; round < 500; ++round) {
    auto workers = MakeWorkers(5);
    for (WorkerView& worker : workers) worker.running = random() % 17, worker.waiting = random() % 3;
    const PlacementRequest request = ForExpert("python");
    const size_t chosen = Place(request, workers).row;
    WorkerView& worker = workers[chosen];
    worker.resident.insert(Sha256("python"));
    EXPECT_EQ(Place(request, workers).row, chosen);
    worker.waiting = 0;
    worker.running /= 2;
    EXPECT_EQ(Place(request, workers).row, chosen);
  }
}

TEST(PlacementTest, OptionsOutsideTheirRangeAreNamed) {
  EXPECT_EQ(Placer::Create({.mean_answer_tokens = 0}).status().message(),
            "placement option mean_answer_tokens = 0 is outside 1..1e+09");
  EXPECT_EQ(Placer::Create({.load_bytes_per_second = NAN}).status().message(),
            "placement option load_bytes_per_second = nan is outside 1..1e+15");
  EXPECT_FALSE(Placer::Create({.stickiness_seconds = -1}).ok());
}

}  // namespace
}  // namespace coterie
