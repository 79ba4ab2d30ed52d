// Adapters that do not all fit into memory: everybody ends, nothing is loaded for nobody.
#include <map>
#include <random>

#include "common/file.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/testing/seed.h"
#include "tests/worker/engine/engine_harness.h"

namespace coterie {
namespace {

using ::testing::HasSubstr;

constexpr size_t kMiB = size_t{1} << 20;

// Adapters of sizes that are told by digest, and how often each was loaded.
class SizedModel : public FakeModel {
 public:
  using FakeModel::FakeModel;
  StatusOr<std::unique_ptr<LoadedAdapter>> LoadAdapter(const std::filesystem::path& folder) override {
    ASSIGN_OR_RETURN(auto loaded, FakeModel::LoadAdapter(folder));
    MutexLock lock(&mutex_);
    ++n_loads_[loaded->digest];
    loaded->bytes = sizes_[loaded->digest];
    return loaded;
  }
  void SetSize(const Digest& digest, size_t bytes) {
    MutexLock lock(&mutex_);
    sizes_[digest] = bytes;
  }
  int n_loads(const Digest& digest) {
    MutexLock lock(&mutex_);
    return n_loads_[digest];
  }

 private:
  Mutex mutex_;
  std::map<Digest, size_t> sizes_ ABSL_GUARDED_BY(mutex_);
  std::map<Digest, int> n_loads_ ABSL_GUARDED_BY(mutex_);
};

struct SizedHarness {
  explicit SizedHarness(EngineOptions options, FakeModelOptions fake = {})
      : harness(options, fake, [this](FakeModelOptions o) {
          auto made = std::make_unique<SizedModel>(o);
          model = made.get();
          return made;
        }) {}
  Digest Make(const std::string& name, size_t bytes) {
    const Digest digest = harness.MakeAdapter(name);
    model->SetSize(digest, bytes);
    return digest;
  }
  SizedModel* model = nullptr;
  EngineHarness harness;
};

SequenceRequest Naming(const std::vector<Digest>& adapters, uint32_t max_tokens = 3, int seed = 1) {
  SequenceRequest request = TestRequest(TestPrompt(10, seed), max_tokens);
  for (const Digest& adapter : adapters) request.adapters.push_back({adapter, 0.5f, "x"});
  return request;
}

EngineOptions BudgetOptions(size_t max_bytes, int n_slots = 4) {
  EngineOptions options;
  options.adapters.n_slots = n_slots;
  options.adapters.max_bytes = max_bytes;
  return options;
}

TEST(AdapterBudgetTest, TwoAdaptersThatDoNotFitTogetherAreRefusedByNameAndBound) {
  SizedHarness h(BudgetOptions(10 * kMiB));
  const Digest x = h.Make("x", 6 * kMiB), y = h.Make("y", 7 * kMiB);
  const Answer& answer = h.harness.Run(Naming({x, y}));
  EXPECT_EQ(answer.finish, FinishReason::kError);
  EXPECT_EQ(answer.status.code(), absl::StatusCode::kResourceExhausted);
  const std::string message(answer.status.message());
  for (const std::string& part : {x.Short(), y.Short(), absl::StrCat(13 * kMiB), absl::StrCat(10 * kMiB),
                                  std::string("--adapter-bytes")}) {
    EXPECT_THAT(message, HasSubstr(part));
  }
  EXPECT_LE(h.model->n_loads(x) + h.model->n_loads(y), 2);
  // Their sizes are known now: no further request costs a load.
  EXPECT_EQ(h.harness.Run(Naming({y, x}, 3, 2)).status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_LE(h.model->n_loads(x) + h.model->n_loads(y), 2);
  EXPECT_EQ(h.harness.Run(Naming({x})).tokens.size(), 3u);
  EXPECT_EQ(h.harness.Run(Naming({y})).tokens.size(), 3u);
}

TEST(AdapterBudgetTest, WaitingSequencesDoNotTakeEachOthersAdaptersAway) {
  FakeModelOptions fake;
  fake.step_time = absl::Milliseconds(1);
  EngineOptions options = BudgetOptions(3 * kMiB, 8);
  options.max_seqs = 2;
  SizedHarness h(options, fake);
  std::vector<Digest> adapters;
  for (int i = 0; i < 12; ++i) adapters.push_back(h.Make(absl::StrCat("a", i), kMiB));
  // A full house of long answers, and a dozen that want more memory together than there is.
  std::vector<uint64_t> ids;
  for (int i = 0; i < 2; ++i) ids.push_back(h.harness.Submit(TestRequest(TestPrompt(10, i), 60)));
  for (int i = 0; i < 12; ++i) ids.push_back(h.harness.Submit(Naming({adapters[i]}, 5, i)));
  for (uint64_t id : ids) h.harness.WaitFinished(id);
  for (int i = 0; i < 12; ++i) {
    EXPECT_EQ(h.harness.answer(ids[i + 2]).tokens.size(), 5u);
    EXPECT_EQ(h.model->n_loads(adapters[i]), 1) << i;
  }
}

// Whatever the sets, the bound and the slots: who can be served is served, who cannot is refused by name, and
// an adapter is loaded again only after somebody who named it has ended (once more where its size was not
// known).
TEST(AdapterBudgetTest, EveryRequestEndsAndNoLoadIsThrownAwayWhateverTheSetsAndTheBound) {
  std::mt19937 random(testing::TestSeed());
  const auto below = [&](int n) { return static_cast<int>(random() % static_cast<uint32_t>(n)); };
  for (int round = 0; round < 40; ++round) {
    EngineOptions options = BudgetOptions(static_cast<size_t>(4 + below(12)) * kMiB, 1 + below(5));
    options.max_seqs = 1 + below(4);
    options.max_logit_rows = 16;
    options.adapters.n_loader_threads = 1 + below(3);
    options.slot_patience = absl::Milliseconds(below(20));
    SCOPED_TRACE(::testing::Message()
                 << "round " << round << ": " << options.adapters.max_bytes / kMiB << " MiB, "
                 << options.adapters.n_slots << " slots, " << options.max_seqs << " seats");
    SizedHarness h(options);
    std::vector<Digest> adapters;
    std::map<Digest, size_t> sizes;
    for (int i = 0; i < 8; ++i) {
      const size_t bytes = static_cast<size_t>(1 + below(7)) * kMiB;
      adapters.push_back(h.Make(absl::StrCat("a", i), bytes));
      sizes[adapters.back()] = bytes;
    }
    std::vector<std::vector<Digest>> sets;
    std::vector<uint64_t> ids;
    for (int i = 0; i < 30; ++i) {
      std::vector<Digest> set = adapters;
      std::shuffle(set.begin(), set.end(), random);
      set.resize(static_cast<size_t>(below(std::min(options.adapters.n_slots, 3) + 1)));
      SequenceRequest request = Naming(set, static_cast<uint32_t>(1 + below(6)), i);
      request.tenant = absl::StrCat("t", below(3));
      sets.push_back(set);
      ids.push_back(h.harness.Submit(std::move(request)));
    }
    std::map<Digest, int> n_served, n_refused;
    for (size_t i = 0; i < ids.size(); ++i) {
      h.harness.WaitFinished(ids[i]);
      if (::testing::Test::HasFatalFailure()) return;
      size_t bytes = 0;
      for (const Digest& digest : sets[i]) bytes += sizes[digest];
      const Answer& answer = h.harness.answer(ids[i]);
      if (bytes > options.adapters.max_bytes) {
        EXPECT_EQ(answer.status.code(), absl::StatusCode::kResourceExhausted) << bytes / kMiB << " MiB";
        bool named = false;
        for (const Digest& digest : sets[i]) {
          named |= std::string(answer.status.message()).find(digest.Short()) != std::string::npos;
          ++n_refused[digest];
        }
        EXPECT_TRUE(named) << answer.status;
      } else {
        EXPECT_EQ(answer.finish, FinishReason::kLength) << answer.status;
        for (const Digest& digest : sets[i]) ++n_served[digest];
      }
    }
    for (const Digest& digest : adapters) {
      // A set may have to be loaded in part to find out that it does not fit.
      EXPECT_LE(h.model->n_loads(digest), n_served[digest] + n_refused[digest] + 1);
      if (sizes[digest] > options.adapters.max_bytes) {
        EXPECT_LE(h.model->n_loads(digest), 2) << "its size was known since";
      }
    }
    EXPECT_LE(h.harness.engine().adapter_stats().bytes, options.adapters.max_bytes);
  }
}

TEST(AdapterBudgetTest, AHigherPriorityGoesBeforeMemoryThatWaitingOnesHold) {
  FakeModelOptions fake;
  fake.step_time = absl::Milliseconds(2);
  EngineOptions options = BudgetOptions(2 * kMiB, 8);
  options.max_seqs = 1;
  SizedHarness h(options, fake);
  const Digest low = h.Make("low", 2 * kMiB), high = h.Make("high", 2 * kMiB);
  std::vector<std::string> order;
  std::map<uint64_t, std::string> names;
  h.harness.on_event = [&](const OutputEvent& event) {
    if (event.kind == OutputEvent::Kind::kFinish) order.push_back(names[event.id]);
  };
  const uint64_t base = h.harness.Submit(TestRequest(TestPrompt(10, 1), 30));
  names[base] = "base";
  h.harness.PumpUntil([&] { return !h.harness.answer(base).tokens.empty(); });
  const uint64_t first = h.harness.Submit(Naming({low}));
  names[first] = "low";
  h.harness.PumpUntil([&] { return h.model->n_loads(low) == 1; });  // promised and loaded for it
  SequenceRequest urgent = Naming({high}, 3, 2);
  urgent.priority = 5;
  const uint64_t second = h.harness.Submit(std::move(urgent));
  names[second] = "high";
  for (uint64_t id : {base, first, second}) h.harness.WaitFinished(id);
  EXPECT_THAT(order, ::testing::ElementsAre("base", "high", "low"));
}

TEST(AdapterBudgetTest, AFailedAdapterIsToldAtOnceThoughNoSeatIsFree) {
  FakeModelOptions fake;
  fake.step_time = absl::Milliseconds(2);
  EngineOptions options = BudgetOptions(8 * kMiB);
  options.max_seqs = 1;
  SizedHarness h(options, fake);
  const uint64_t running = h.harness.Submit(TestRequest(TestPrompt(10, 1), 400));
  h.harness.PumpUntil([&] { return !h.harness.answer(running).tokens.empty(); });
  const uint64_t failed = h.harness.Submit(Naming({Sha256("nowhere")}));
  h.harness.WaitFinished(failed);
  EXPECT_EQ(h.harness.answer(failed).status.code(), absl::StatusCode::kNotFound);
  EXPECT_FALSE(h.harness.finished(running)) << "it took the seat all the while";
  h.harness.engine().Cancel(running);
  h.harness.WaitFinished(running);
}

TEST(AdapterBudgetTest, OneAdapterNamedTwiceIsHeldOnce) {
  SizedHarness h(BudgetOptions(10 * kMiB, 2));
  const Digest x = h.Make("x", 6 * kMiB);
  EXPECT_EQ(h.harness.Run(Naming({x, x})).tokens.size(), 3u);
  EXPECT_EQ(h.model->n_loads(x), 1);
}

// Must come to its end; the sanitizers see the rest.
TEST(AdapterBudgetTest, AnEngineMayEndWhileALoadRuns) {
  FakeModelOptions fake;
  fake.load_time = absl::Milliseconds(50);
  for (int i = 0; i < 5; ++i) {
    SizedHarness h(BudgetOptions(8 * kMiB), fake);
    h.harness.Submit(Naming({h.Make("slow", kMiB)}));
    h.harness.PumpFor(absl::Milliseconds(10 * i));
    h.harness.StopEngine();
  }
}

}  // namespace
}  // namespace coterie
