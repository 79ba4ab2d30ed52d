// Who runs, who waits and who gives way.
#include <algorithm>

#include "common/clock.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/worker/engine/engine_harness.h"

namespace coterie {
namespace {

FakeModelOptions WithBlocks(int n_kv_blocks) {
  FakeModelOptions model;
  model.n_kv_blocks = n_kv_blocks;
  return model;
}

// A step takes a millisecond.
FakeModelOptions Slow(int n_kv_blocks = 512) {
  FakeModelOptions model = WithBlocks(n_kv_blocks);
  model.step_time = absl::Milliseconds(1);
  return model;
}

SequenceRequest Request(int prompt, int seed, uint32_t max_tokens, int priority = 0) {
  SequenceRequest request = TestRequest(TestPrompt(prompt, seed), max_tokens);
  request.priority = priority;
  return request;
}

// Ids in the order of their ends.
std::vector<uint64_t> OrderOfEnds(EngineHarness* harness, const std::vector<uint64_t>& ids) {
  std::vector<uint64_t> order;
  harness->on_event = [&](const OutputEvent& event) {
    if (event.kind == OutputEvent::Kind::kFinish) order.push_back(event.id);
  };
  for (uint64_t id : ids) harness->WaitFinished(id);
  harness->on_event = nullptr;
  return order;
}

TEST(SchedulingTest, SequencesJoinAndLeaveAtAnyStep) {
  EngineHarness harness;
  harness.HoldSteps();
  const uint64_t slow = harness.Submit(Request(10, 1, 300));
  harness.StepUntil([&] { return harness.answer(slow).tokens.size() > 10; });
  const uint64_t quick = harness.Submit(Request(10, 2, 5));
  harness.StepUntil([&] { return harness.finished(quick); });
  EXPECT_EQ(harness.answer(quick).tokens.size(), 5u);
  EXPECT_FALSE(harness.finished(slow)) << "the short one did not wait for the long one";
  harness.LetStepsGo();
  harness.WaitFinished(slow);
}

TEST(SchedulingTest, ALongPromptDoesNotHoldUpDecodes) {
  EngineOptions options;
  options.max_batch_tokens = 40;
  EngineHarness harness(options);
  harness.HoldSteps();
  const uint64_t decoding = harness.Submit(Request(5, 1, 400));
  harness.StepUntil([&] { return harness.answer(decoding).tokens.size() > 5; });
  const uint64_t prompt = harness.Submit(Request(2000, 2, 1));  // 52 steps of 40 tokens
  const size_t before = harness.answer(decoding).tokens.size();
  harness.StepUntil([&] { return harness.finished(prompt); });
  EXPECT_GE(harness.answer(decoding).tokens.size(), before + 45) << "a token in each of those steps";
}

TEST(SchedulingTest, ASequenceWithoutCreditNeitherHoldsASeatNorBlocksNorSlots) {
  EngineOptions options;
  options.max_seqs = 2;
  options.adapters.n_slots = 1;
  EngineHarness harness(options, WithBlocks(8));
  std::vector<uint64_t> paused;
  for (int i = 0; i < 4; ++i) {
    SequenceRequest request = Request(20, i, 30);
    request.initial_credit = 3;
    request.adapters = {{harness.MakeAdapter("a"), 1.0f, "a"}};
    paused.push_back(harness.Submit(request));
  }
  for (uint64_t id : paused) harness.PumpUntil([&] { return harness.answer(id).tokens.size() == 3; });
  SequenceRequest big = Request(100, 9, 20);  // all eight blocks
  big.adapters = {{harness.MakeAdapter("b"), 1.0f, "b"}};
  EXPECT_EQ(harness.Run(big).tokens.size(), 20u);
  EXPECT_GT(harness.engine().stats().preemptions, 0u) << "the paused ones gave up their blocks";
  for (uint64_t id : paused) harness.engine().AddCredit(id, 100);
  for (size_t i = 0; i < paused.size(); ++i) {
    harness.WaitFinished(paused[i]);
    EngineHarness alone;
    SequenceRequest request = Request(20, static_cast<int>(i), 30);
    request.adapters = {{alone.MakeAdapter("a"), 1.0f, "a"}};
    EXPECT_EQ(harness.answer(paused[i]).tokens, alone.Run(request).tokens);
  }
}

TEST(SchedulingTest, HigherPriorityGoesFirstAndEqualPriorityByArrival) {
  EngineOptions options;
  options.max_seqs = 1;
  EngineHarness harness(options);
  harness.HoldSteps();
  const uint64_t running = harness.Submit(Request(5, 0, 60));
  harness.StepUntil([&] { return !harness.answer(running).tokens.empty(); });
  const uint64_t low = harness.Submit(Request(5, 1, 5, -1));
  const uint64_t first = harness.Submit(Request(5, 2, 5, 0));
  const uint64_t second = harness.Submit(Request(5, 3, 5, 0));
  const uint64_t high = harness.Submit(Request(5, 4, 5, 1));
  harness.LetStepsGo();
  EXPECT_EQ(OrderOfEnds(&harness, {running, low, first, second, high}),
            (std::vector<uint64_t>{running, high, first, second, low}));
}

TEST(SchedulingTest, WhenBlocksRunOutTheLowestPriorityAndLatestArrivalGivesWay) {
  // Each sequence grows to 8 blocks of 20: three cannot finish side by side.
  EngineHarness harness({}, WithBlocks(20));
  harness.HoldSteps();
  const uint64_t low = harness.Submit(Request(40, 1, 80, -1));
  const uint64_t early = harness.Submit(Request(40, 2, 80));
  const uint64_t late = harness.Submit(Request(40, 3, 80));
  harness.LetStepsGo();
  EXPECT_EQ(OrderOfEnds(&harness, {low, early, late}), (std::vector<uint64_t>{early, late, low}));
  EXPECT_GT(harness.engine().stats().preemptions, 0u);
}

TEST(SchedulingTest, AnUrgentNewcomerTakesBlocksOfLowerPriorityOnly) {
  EngineHarness harness({}, WithBlocks(16));
  harness.HoldSteps();
  const uint64_t low = harness.Submit(Request(100, 1, 100, 0));
  harness.StepUntil([&] { return harness.answer(low).tokens.size() > 10; });
  const uint64_t equal = harness.Submit(Request(200, 2, 5, 0));
  harness.StepUntil([&] { return harness.answer(low).tokens.size() > 30; });
  EXPECT_EQ(harness.engine().stats().preemptions, 0u);
  const uint64_t urgent = harness.Submit(Request(200, 3, 5, 5));
  harness.LetStepsGo();
  EXPECT_EQ(OrderOfEnds(&harness, {low, equal, urgent}), (std::vector<uint64_t>{urgent, low, equal}));
  EXPECT_EQ(harness.engine().stats().preemptions, 1u);
}

TEST(SchedulingTest, NothingStarvesUnderAStreamOfHigherPriority) {
  EngineOptions options;
  options.max_seqs = 1;
  options.aging_interval = absl::Milliseconds(20);
  EngineHarness harness(options, Slow());
  uint64_t next = harness.Submit(Request(5, 1, 5, 5));
  const uint64_t low = harness.Submit(Request(5, 2, 5, 0));
  int n_high = 0;
  const MonotonicTime begin = MonotonicNow();
  while (!harness.finished(low) && MonotonicNow() - begin < absl::Seconds(10)) {
    const uint64_t other = harness.Submit(Request(5, 3, 5, 5));  // there is always one waiting
    harness.PumpUntil([&] { return harness.finished(next) || harness.finished(low); });
    next = other;
    ++n_high;
  }
  EXPECT_TRUE(harness.finished(low)) << "five levels of 20 ms, and what was ahead";
  EXPECT_GT(n_high, 5) << "it did wait";
}

TEST(SchedulingTest, ABigPromptIsNotPassedOverForeverBySmallOnes) {
  EngineHarness harness({}, Slow(16));
  std::vector<uint64_t> small;
  for (int i = 0; i < 4; ++i) small.push_back(harness.Submit(Request(20, i, 40)));
  const uint64_t big = harness.Submit(Request(220, 9, 5));
  int n = 0;
  const MonotonicTime begin = MonotonicNow();
  while (!harness.finished(big) && MonotonicNow() - begin < absl::Seconds(10)) {
    small.push_back(harness.Submit(Request(20, 10 + n++, 40)));
    harness.PumpFor(absl::Milliseconds(10));
  }
  EXPECT_TRUE(harness.finished(big));
  for (uint64_t id : small) harness.WaitFinished(id);
}

TEST(SchedulingTest, AnAdapterIsNotLockedOutByAStreamForAnother) {
  EngineOptions options;
  options.max_seqs = 4;
  options.adapters.n_slots = 1;
  options.slot_patience = absl::Milliseconds(50);
  EngineHarness harness(options, Slow());
  const Digest popular = harness.MakeAdapter("popular"), rare = harness.MakeAdapter("rare");
  std::vector<uint64_t> stream;
  auto submit_popular = [&] {
    SequenceRequest request = Request(5, static_cast<int>(stream.size()), 30);
    request.adapters = {{popular, 1.0f, "popular"}};
    stream.push_back(harness.Submit(request));
  };
  submit_popular();
  submit_popular();
  harness.PumpUntil([&] { return !harness.answer(stream[0]).tokens.empty(); });
  SequenceRequest request = Request(5, 77, 5);
  request.adapters = {{rare, 1.0f, "rare"}};
  const uint64_t waiting = harness.Submit(request);
  const MonotonicTime begin = MonotonicNow();
  while (!harness.finished(waiting) && MonotonicNow() - begin < absl::Seconds(10)) {
    submit_popular();
    harness.PumpFor(absl::Milliseconds(10));
  }
  EXPECT_TRUE(harness.finished(waiting));
  for (uint64_t id : stream) harness.WaitFinished(id);
}

TEST(SchedulingTest, AStormOfEverythingEndsEverySequenceExactlyOnce) {
  EngineOptions options;
  options.max_seqs = 6;
  options.max_waiting = 400;
  options.max_batch_tokens = 50;
  options.adapters.n_slots = 2;
  options.adapters.max_bytes = 3 << 20;
  options.aging_interval = absl::Milliseconds(5);
  FakeModelOptions model;
  model.n_kv_blocks = 24;
  EngineHarness harness(options, model);
  std::vector<Digest> adapters;
  for (int i = 0; i < 6; ++i) adapters.push_back(harness.MakeAdapter(absl::StrCat("adapter", i)));
  std::vector<uint64_t> ids;
  for (int i = 0; i < 300; ++i) {
    SequenceRequest request = Request(1 + i * 37 % 250, i % 11, 1 + i * 13 % 60, i % 7 - 3);
    for (int a = 0; a < i % 3; ++a) request.adapters.push_back({adapters[(i + a) % 6], 0.5f, ""});
    if (i % 5 == 0) request.initial_credit = i % 4;
    if (i % 17 == 0) request.deadline = MonotonicNow() + absl::Milliseconds(i);
    if (i % 23 == 0) request.adapters = {{Sha256("missing"), 1.0f, ""}};
    ids.push_back(harness.Submit(request));
    if (i % 10 == 0) harness.engine().Cancel(ids[ids.size() / 2]);
    if (i % 3 == 0) harness.PumpFor(absl::Microseconds(300));
  }
  for (uint64_t id : ids) harness.engine().AddCredit(id, 1000);
  for (uint64_t id : ids) harness.WaitFinished(id);
  EXPECT_EQ(harness.engine().stats().kv_blocks_used, 0u);
  EXPECT_EQ(harness.engine().stats().running, 0u);
}

}  // namespace
}  // namespace coterie
