// Adapters as sequences meet them: loading, sharing slots, failing.
#include <atomic>
#include <filesystem>

#include "common/file.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/worker/engine/engine_harness.h"

namespace coterie {
namespace {

using ::testing::HasSubstr;
using ::testing::UnorderedElementsAre;

SequenceRequest With(const Digest& adapter, uint32_t max_tokens = 5, int seed = 1) {
  SequenceRequest request = TestRequest(TestPrompt(10, seed), max_tokens);
  request.adapters = {{adapter, 1.0f, "x"}};
  return request;
}

TEST(AdapterStoreTest, ALoadDelaysOnlyTheSequencesThatWantIt) {
  FakeModelOptions model;
  model.load_time = absl::Milliseconds(300);
  EngineHarness harness({}, model);
  const uint64_t loading = harness.Submit(With(harness.MakeAdapter("slow")));
  const Answer& base = harness.Run(TestRequest(TestPrompt(10, 1), 50));
  EXPECT_EQ(base.tokens.size(), 50u);
  EXPECT_FALSE(harness.finished(loading));
  harness.WaitFinished(loading);
  EXPECT_GE(harness.answer(loading).queued_ms, 250u);
  EXPECT_EQ(harness.engine().adapter_stats().misses, 1u);
  harness.Run(With(harness.MakeAdapter("slow")));
  EXPECT_EQ(harness.engine().adapter_stats().hits, 1u);
  EXPECT_EQ(harness.engine().adapter_stats().load_seconds.count(), 1u);
}

TEST(AdapterStoreTest, ManyWaitingForOneAdapterLoadItOnce) {
  FakeModelOptions model;
  model.load_time = absl::Milliseconds(30);
  EngineHarness harness({}, model);
  std::vector<uint64_t> ids;
  for (int i = 0; i < 10; ++i) ids.push_back(harness.Submit(With(harness.MakeAdapter("a"), 5, i)));
  for (uint64_t id : ids) harness.WaitFinished(id);
  EXPECT_EQ(harness.engine().adapter_stats().load_seconds.count(), 1u);
}

TEST(AdapterStoreTest, SlotsAreBoundedAndTheLeastRecentlyUsedLeaves) {
  EngineOptions options;
  options.adapters.n_slots = 2;
  EngineHarness harness(options);
  const Digest a = harness.MakeAdapter("a"), b = harness.MakeAdapter("b"), c = harness.MakeAdapter("c");
  harness.Run(With(a));
  harness.Run(With(b));
  harness.Run(With(a));
  EXPECT_THAT(harness.resident(), UnorderedElementsAre(a, b));
  harness.Run(With(c));
  harness.PumpFor(absl::Milliseconds(10));
  EXPECT_THAT(harness.resident(), UnorderedElementsAre(a, c));
  EXPECT_EQ(harness.engine().adapter_stats().in_memory, 3u) << "b stays in memory";
  harness.Run(With(b));
  EXPECT_EQ(harness.engine().adapter_stats().load_seconds.count(), 3u) << "and needs no second load";
}

TEST(AdapterStoreTest, MemoryIsBoundedAndWhatWasDroppedIsLoadedAgain) {
  EngineOptions options;
  options.adapters.n_slots = 2;
  options.adapters.max_bytes = 3 << 20;
  EngineHarness harness(options);
  for (int round = 0; round < 2; ++round) {
    for (int i = 0; i < 5; ++i) {
      EXPECT_EQ(harness.Run(With(harness.MakeAdapter(absl::StrCat(i)))).tokens.size(), 5u);
      EXPECT_LE(harness.engine().adapter_stats().bytes, 3u << 20);
    }
  }
  EXPECT_EQ(harness.engine().adapter_stats().load_seconds.count(), 10u);
  EXPECT_EQ(harness.engine().adapter_stats().evictions, 7u);
}

TEST(AdapterStoreTest, APinnedAdapterIsNeverTakenAway) {
  EngineOptions options;
  options.adapters.n_slots = 1;
  options.adapters.max_bytes = 1 << 20;
  FakeModelOptions model;
  model.step_time = absl::Milliseconds(1);
  EngineHarness harness(options, model);
  const uint64_t first = harness.Submit(With(harness.MakeAdapter("a"), 100));
  harness.PumpUntil([&] { return !harness.answer(first).tokens.empty(); });
  const uint64_t second = harness.Submit(With(harness.MakeAdapter("b"), 5));
  harness.WaitFinished(second);
  EXPECT_TRUE(harness.finished(first)) << "b had to wait for a's sequence";
  EXPECT_EQ(harness.answer(first).tokens.size(), 100u);
}

TEST(AdapterStoreTest, AFailedLoadEndsItsRequestsWithTheReasonAndIsTriedAgain) {
  EngineHarness harness;
  const Digest missing = Sha256("late");
  const Answer& failed = harness.Run(With(missing));
  EXPECT_EQ(failed.finish, FinishReason::kError);
  EXPECT_EQ(failed.status.code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(failed.status.message()), HasSubstr(absl::StrCat("adapter ", missing.Short())));
  EXPECT_EQ(harness.engine().adapter_stats().failures, 1u);
  harness.MakeAdapter("late");  // published meanwhile
  EXPECT_EQ(harness.Run(With(missing)).tokens.size(), 5u);
}

// Gives every adapter another digest than asked for, or claims that it is huge.
class StrangeModel : public FakeModel {
 public:
  StrangeModel(FakeModelOptions options, bool huge) : FakeModel(options), huge_(huge) {}
  StatusOr<std::unique_ptr<LoadedAdapter>> LoadAdapter(const std::filesystem::path& folder) override {
    ASSIGN_OR_RETURN(auto loaded, FakeModel::LoadAdapter(folder));
    if (huge_) {
      loaded->bytes = size_t{1} << 40;
    } else {
      loaded->digest = Sha256("something else");
    }
    return loaded;
  }

 private:
  const bool huge_;
};

TEST(AdapterStoreTest, AnAdapterOfAnotherDigestIsNeverServed) {
  EngineHarness harness({}, {}, [](FakeModelOptions o) { return std::make_unique<StrangeModel>(o, false); });
  const Answer& answer = harness.Run(With(harness.MakeAdapter("a")));
  EXPECT_EQ(answer.status.code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(std::string(answer.status.message()), HasSubstr(Sha256("something else").Short()));
}

TEST(AdapterStoreTest, AnAdapterTooLargeForTheMemoryIsRefusedByItsSize) {
  EngineHarness harness({}, {}, [](FakeModelOptions o) { return std::make_unique<StrangeModel>(o, true); });
  const Answer& answer = harness.Run(With(harness.MakeAdapter("a")));
  EXPECT_EQ(answer.status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(answer.status.message()), HasSubstr("takes 1099511627776 bytes packed"));
}

TEST(AdapterStoreTest, PrefetchLoadsAheadAndFailsSilently) {
  EngineHarness harness;
  const Digest a = harness.MakeAdapter("a");
  harness.engine().Prefetch(a);
  harness.engine().Prefetch(Sha256("missing"));
  harness.PumpUntil([&] { return harness.resident().contains(a); });
  harness.PumpFor(absl::Milliseconds(20));
  EXPECT_EQ(harness.Run(With(a)).tokens.size(), 5u);
  EXPECT_EQ(harness.engine().adapter_stats().hits, 1u);
  EXPECT_EQ(harness.engine().adapter_stats().misses, 0u);
}

TEST(AdapterStoreTest, ASequenceThatIsCancelledWhileLoadingLeavesTheOthers) {
  FakeModelOptions model;
  model.load_time = absl::Milliseconds(50);
  EngineHarness harness({}, model);
  const Digest a = harness.MakeAdapter("a");
  const uint64_t gone = harness.Submit(With(a));
  const uint64_t stays = harness.Submit(With(a, 5, 2));
  harness.engine().Cancel(gone);
  harness.WaitFinished(gone);
  EXPECT_FALSE(harness.finished(stays));
  harness.WaitFinished(stays);
  EXPECT_EQ(harness.answer(stays).tokens.size(), 5u);
}

TEST(AdapterStoreTest, MoreAdaptersThanOneSlotEachAreTakenAllOrNone) {
  EngineOptions options;
  options.adapters.n_slots = 3;
  FakeModelOptions model;
  model.load_time = absl::Milliseconds(1);
  EngineHarness harness(options, model);
  std::vector<Digest> adapters;
  for (int i = 0; i < 4; ++i) adapters.push_back(harness.MakeAdapter(absl::StrCat(i)));
  std::vector<uint64_t> ids;
  for (int i = 0; i < 24; ++i) {  // pairs that overlap: greedy locking would stand still
    SequenceRequest request = TestRequest(TestPrompt(10, i), 10);
    request.adapters = {{adapters[i % 4], 0.5f, ""}, {adapters[(i + 1 + i / 4 % 3) % 4], 0.5f, ""}};
    ids.push_back(harness.Submit(request));
  }
  for (uint64_t id : ids) {
    harness.WaitFinished(id);
    EXPECT_EQ(harness.answer(id).tokens.size(), 10u);
  }
}

}  // namespace
}  // namespace coterie
