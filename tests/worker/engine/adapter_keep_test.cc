// The packed form of an adapter is kept for the next cold load: by the loader, when nobody waits for it any
// more.
#include <atomic>
#include <set>

#include "gtest/gtest.h"
#include "tests/worker/engine/engine_harness.h"

namespace coterie {
namespace {

// Keeping an adapter lasts until it is let go on.
class KeepingModel : public FakeModel {
 public:
  struct State {
    std::atomic<int> n_begun = 0;
    std::atomic<int> n_kept = 0;
    std::atomic<bool> may_go_on = false;
  };
  KeepingModel(FakeModelOptions options, State* state) : FakeModel(std::move(options)), state_(state) {}
  StatusOr<std::unique_ptr<LoadedAdapter>> LoadAdapter(const std::filesystem::path& folder) override {
    ASSIGN_OR_RETURN(auto loaded, FakeModel::LoadAdapter(folder));
    loaded->keep = [state = state_] {
      ++state->n_begun;
      state->may_go_on.wait(false);
      ++state->n_kept;
    };
    return loaded;
  }

 private:
  State* const state_;
};

TEST(AdapterKeepTest, AnAnswerDoesNotWaitUntilItsAdapterIsKept) {
  KeepingModel::State state;
  EngineHarness harness({}, {}, [&](FakeModelOptions options) {
    return std::make_unique<KeepingModel>(std::move(options), &state);
  });
  SequenceRequest request = TestRequest(TestPrompt(10, 1), 5);
  request.adapters = {{harness.MakeAdapter("a"), 1.0f, "a"}};
  EXPECT_EQ(harness.Run(request).tokens.size(), 5u);
  EXPECT_EQ(state.n_kept, 0);
  state.may_go_on = true;
  state.may_go_on.notify_all();
  EXPECT_EQ(harness.Run(request).tokens.size(), 5u);
  harness.StopEngine();  // waits for the loader
  EXPECT_EQ(state.n_begun, 1);
  EXPECT_EQ(state.n_kept, 1);
}

TEST(AdapterKeepTest, LoadsAreCountedByTheFilesTheyRead) {
  // Has a packed file of every adapter that it has loaded before.
  class PackedModel final : public FakeModel {
   public:
    using FakeModel::FakeModel;
    StatusOr<std::unique_ptr<LoadedAdapter>> LoadAdapter(const std::filesystem::path& folder) override {
      ASSIGN_OR_RETURN(auto loaded, FakeModel::LoadAdapter(folder));
      loaded->from_packed = !seen_.insert(loaded->digest).second;
      return loaded;
    }

   private:
    std::set<Digest> seen_;  // one loader
  };
  EngineOptions options;
  options.adapters.max_bytes = 1;  // nothing stays in memory
  FakeModelOptions fake;
  fake.adapter_bytes = 1;
  EngineHarness harness(options, fake, [](FakeModelOptions fake_options) {
    return std::make_unique<PackedModel>(std::move(fake_options));
  });
  const Digest digests[] = {harness.MakeAdapter("a"), harness.MakeAdapter("b")};
  for (int i = 0; i < 6; ++i) {
    SequenceRequest request = TestRequest(TestPrompt(10, 1), 5);
    request.adapters = {{digests[i % 2], 1.0f, "x"}};
    EXPECT_EQ(harness.Run(request).tokens.size(), 5u);
  }
  EXPECT_EQ(harness.engine().adapter_stats().loads_from_peft, 2u);
  EXPECT_EQ(harness.engine().adapter_stats().loads_from_packed, 4u);
}

}  // namespace
}  // namespace coterie
