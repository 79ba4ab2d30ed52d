// A device that is lost: every sequence ends with the reason, and nothing more is asked of the model.
#include "absl/time/clock.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/worker/engine/engine_harness.h"
#include "tests/worker/engine/late_model.h"

namespace coterie {
namespace {

using ::testing::HasSubstr;

const Status kGone = absl::UnavailableError("the fake device was lost at step 6");

FakeModelOptions LostAtStep(uint64_t step) {
  FakeModelOptions model;
  model.lost_at_step = step;
  return model;
}

TEST(DeviceLostTest, EverySequenceEndsWithTheReasonWhetherItRanOrWaited) {
  EngineOptions options;
  options.max_seqs = 4;
  EngineHarness harness(options, LostAtStep(6));
  EXPECT_TRUE(harness.engine().device_status().ok());
  harness.HoldSteps();
  std::vector<uint64_t> ids;
  for (int i = 0; i < 12; ++i) ids.push_back(harness.Submit(TestRequest(TestPrompt(20, i), 3000)));
  harness.LetStepsGo();
  for (const uint64_t id : ids) {
    harness.WaitFinished(id);
    EXPECT_EQ(harness.answer(id).finish, FinishReason::kError);
    EXPECT_EQ(harness.answer(id).status, kGone);
  }
  EXPECT_FALSE(harness.answer(ids[0]).tokens.empty());
  EXPECT_TRUE(harness.answer(ids[11]).tokens.empty());
  EXPECT_EQ(harness.engine().device_status(), kGone);
  EXPECT_EQ(harness.TrySubmit(TestRequest({1, 2, 3}, 5)), kGone);
  harness.PumpUntil([&] { return harness.engine().stats().kv_blocks_used == 0; });
  EXPECT_EQ(harness.engine().stats().running, 0u);
}

TEST(DeviceLostTest, TheConsumerIsToldOnceAndWithTheLastEvents) {
  StepGate gate;
  gate.held = true;  // until all are there
  GatedModel model(std::make_unique<FakeModel>(LostAtStep(6)), &gate);
  const auto engine = Engine::Create({}, &model, [](const Digest&) -> StatusOr<std::filesystem::path> {
                        return absl::NotFoundError("none");
                      }).value();
  for (uint64_t id : {1, 2, 3}) {
    SequenceRequest request = TestRequest(TestPrompt(20, static_cast<int>(id)), 3000);
    request.id = id;
    ASSERT_TRUE(engine->Submit(std::move(request)).ok());
  }
  gate.held = false;
  OutputBatch batch;
  int n_finished = 0;
  while (batch.device_lost.ok()) {
    ASSERT_TRUE(engine->WaitOutputs(&batch, MonotonicNow() + absl::Seconds(20)));
    for (const OutputEvent& event : batch.events) n_finished += event.kind == OutputEvent::Kind::kFinish;
  }
  EXPECT_EQ(batch.device_lost, kGone);
  EXPECT_EQ(n_finished, 3);
  while (engine->WaitOutputs(&batch, MonotonicNow() + absl::Milliseconds(20))) {
    EXPECT_TRUE(batch.device_lost.ok());
    EXPECT_TRUE(batch.events.empty());
  }
}

// Counts what is asked of a model that is lost at a launch or a collection.
class LosingModel final : public ForwardingModel {
 public:
  LosingModel(std::unique_ptr<LanguageModel> model, bool at_launch, std::atomic<int>* n_asked_after)
      : ForwardingModel(std::move(model)), at_launch_(at_launch), n_asked_after_(*n_asked_after) {}

  StatusOr<StepTicket> Launch(const Batch& batch) override {
    if (lost_) ++n_asked_after_;
    if (at_launch_ && ++n_ >= 5) return Lose();
    return ForwardingModel::Launch(batch);
  }
  StatusOr<StepResult> Collect(StepTicket ticket) override {
    if (lost_) ++n_asked_after_;
    if (!at_launch_ && ++n_ >= 5) return Lose();
    return ForwardingModel::Collect(ticket);
  }

 private:
  Status Lose() {
    lost_ = true;
    return absl::UnavailableError("it fell off the bus");
  }
  const bool at_launch_;
  std::atomic<int>& n_asked_after_;
  int n_ = 0;
  bool lost_ = false;
};

TEST(DeviceLostTest, NothingMoreIsAskedOfALostModelNotEvenTheStepsInFlight) {
  for (const bool at_launch : {true, false}) {
    std::atomic<int> n_asked_after = 0;
    EngineHarness harness({}, {}, [&](FakeModelOptions options) {
      return std::make_unique<LosingModel>(std::make_unique<LateModel>(std::make_unique<FakeModel>(options)),
                                           at_launch, &n_asked_after);
    });
    harness.HoldSteps();
    const Digest adapter = harness.MakeAdapter("one");
    SequenceRequest with_adapter = TestRequest(TestPrompt(20, 1), 500);
    with_adapter.adapters = {{adapter, 1.0f, "one"}};
    const uint64_t first = harness.Submit(TestRequest(TestPrompt(20, 2), 500));
    const uint64_t second = harness.Submit(std::move(with_adapter));
    harness.LetStepsGo();
    for (const uint64_t id : {first, second}) {
      harness.WaitFinished(id);
      EXPECT_THAT(std::string(harness.answer(id).status.message()), HasSubstr("fell off the bus"));
    }
    harness.engine().Prefetch(adapter);
    harness.StopEngine();
    EXPECT_EQ(n_asked_after, 0);
  }
}

}  // namespace
}  // namespace coterie
