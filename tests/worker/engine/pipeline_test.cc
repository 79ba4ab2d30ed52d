// Steps launched before the last one's results are known: the same texts, and nothing freed that a step
// reads.
#include <algorithm>
#include <random>

#include "common/philox.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/testing/seed.h"
#include "tests/worker/engine/engine_harness.h"
#include "tests/worker/engine/forwarding_model.h"
#include "tests/worker/engine/late_model.h"

namespace coterie {
namespace {

std::unique_ptr<LanguageModel> MakeLate(FakeModelOptions options) {
  return std::make_unique<LateModel>(std::make_unique<FakeModel>(std::move(options)));
}

// Requests of every kind, with what each says alone on a model whose steps end as they are launched.
struct Expected {
  SequenceRequest request;
  Answer answer;
};

constexpr int kEos = 17;

FakeModelOptions Model() {
  FakeModelOptions options;
  options.eos_token_ids = {kEos};
  return options;
}

std::vector<Expected> RandomRequests(int n, std::mt19937* random) {
  const auto chance = [&](int one_in) { return (*random)() % static_cast<unsigned>(one_in) == 0; };
  std::vector<Expected> all;
  for (int i = 0; i < n; ++i) {
    const int n_prompt = 1 + static_cast<int>((*random)() % 120);
    const int family = static_cast<int>((*random)() % 6);  // prompts that share prefixes
    SequenceRequest request = TestRequest(TestPrompt(n_prompt, family), 1 + (*random)() % 40);
    SamplingParams& params = request.sampling;
    params.seed = (*random)();
    if (chance(2)) params.temperature = 1.3f;  // so that the end of text comes now and then
    if (chance(3)) params.top_k = 30;
    if (chance(4)) params.repetition_penalty = 1.3f;
    if (chance(4)) params.logprobs = (*random)() % 4;
    if (chance(5)) params.logit_bias = {{kEos, 9.0f}};
    if (chance(6)) params.ignore_eos = true;
    request.priority = static_cast<int>((*random)() % 3);
    request.tenant = chance(2) ? "one" : "two";
    for (const char* name : {"a", "b", "c", "d"}) {
      if (chance(4)) request.adapters.push_back({Sha256(name), 0.5f, name});
    }
    if (n_prompt > 2 && chance(5)) {
      request.prompt_logprobs_from = (*random)() % static_cast<unsigned>(n_prompt - 1);
      request.score_only = chance(2);
    }
    // With room for both rows in the least of the caches below.
    if (request.adapters.size() >= 2 && n_prompt + static_cast<int>(params.max_tokens) <= 7 * 16) {
      // Two members, of which one may be a blend.
      request.mixture = {{static_cast<uint32_t>(request.adapters.size()) - 1, 0.75f}, {1, 0.25f}};
    }
    EngineHarness alone({}, Model());
    for (const char* name : {"a", "b", "c", "d"}) alone.MakeAdapter(name);
    Answer answer = alone.Run(request);
    // Some stop at a token of their own text, and some go on after a part of it.
    if (answer.tokens.size() > 2 && chance(6)) {
      params.stop_token_ids = {static_cast<uint32_t>(answer.tokens[answer.tokens.size() / 2])};
      EngineHarness again({}, Model());
      for (const char* name : {"a", "b", "c", "d"}) again.MakeAdapter(name);
      answer = again.Run(request);
    } else if (answer.tokens.size() > 2 && !request.score_only && !request.prompt_logprobs_from &&
               chance(6)) {
      const auto cut = static_cast<ptrdiff_t>(1 + (*random)() % (answer.tokens.size() - 1));
      request.resume_ids.assign(answer.tokens.begin(), answer.tokens.begin() + cut);
      answer.tokens.erase(answer.tokens.begin(), answer.tokens.begin() + cut);
    }
    all.push_back({std::move(request), std::move(answer)});
  }
  return all;
}

struct Tightness {
  int n_kv_blocks;
  int max_seqs;
  int max_batch_tokens;
  int n_slots;
};

void ExpectSameAnswers(const std::vector<Expected>& all, const Tightness& tight, std::mt19937* random) {
  EngineOptions options;
  options.max_seqs = tight.max_seqs;
  options.max_batch_tokens = tight.max_batch_tokens;
  options.max_logit_rows = tight.max_seqs;
  options.adapters.n_slots = tight.n_slots;
  FakeModelOptions model = Model();
  model.n_kv_blocks = tight.n_kv_blocks;
  model.adapter_bytes = 1 << 18;
  options.adapters.max_bytes = static_cast<size_t>(tight.n_slots + 1) << 18;
  EngineHarness harness(options, model, MakeLate);
  for (const char* name : {"a", "b", "c", "d"}) harness.MakeAdapter(name);
  std::vector<uint64_t> ids, cancelled;
  std::vector<uint64_t> wanting;  // credit, token by token or many at a time
  for (const Expected& one : all) {
    SequenceRequest request = one.request;
    const bool hungry = (*random)() % 3 == 0;
    if (hungry) request.initial_credit = (*random)() % 3;
    ids.push_back(harness.Submit(std::move(request)));
    if (hungry) wanting.push_back(ids.back());
    if ((*random)() % 4 == 0) {
      SequenceRequest stray = one.request;
      stray.sampling.max_tokens += 10;
      cancelled.push_back(harness.Submit(std::move(stray)));
    }
  }
  for (int round = 0; !std::all_of(ids.begin(), ids.end(), [&](uint64_t id) { return harness.finished(id); });
       ++round) {
    ASSERT_LT(round, 100000) << "answers do not end";
    for (const uint64_t id : wanting) harness.engine().AddCredit(id, (*random)() % 3);
    if (!cancelled.empty()) {
      harness.engine().Cancel(cancelled.back());
      cancelled.pop_back();
    }
    harness.PumpFor(absl::Microseconds(100));
  }
  for (size_t i = 0; i < ids.size(); ++i) {
    const Answer& actual = harness.answer(ids[i]);
    const Answer& expected = all[i].answer;
    EXPECT_EQ(actual.tokens, expected.tokens) << "request " << i;
    EXPECT_EQ(actual.finish, expected.finish) << "request " << i << ": " << actual.status;
    EXPECT_EQ(actual.stop_token, expected.stop_token) << "request " << i;
    EXPECT_EQ(actual.prompt_logprobs.size(), expected.prompt_logprobs.size()) << "request " << i;
  }
  harness.PumpUntil([&] { return harness.engine().stats().kv_blocks_used == 0; });
}

TEST(PipelineTest, EverySequenceSaysWhatItSaysAloneWhateverTheSchedulerDoes) {
  std::mt19937 random(testing::TestSeed());
  const std::vector<Expected> all = RandomRequests(60, &random);
  for (const Tightness& tight : {Tightness{512, 32, 256, 16}, Tightness{14, 4, 24, 4}, Tightness{30, 8, 9, 4},
                                 Tightness{60, 16, 64, 4}}) {
    SCOPED_TRACE(::testing::Message() << tight.n_kv_blocks << " blocks, " << tight.max_seqs << " sequences");
    ExpectSameAnswers(all, tight, &random);
    if (::testing::Test::HasFailure()) return;
  }
}

TEST(PipelineTest, AnEndOfTextCostsOneDroppedRowAndNoWrongBlock) {
  FakeModelOptions model = Model();
  EngineHarness alone({}, model);
  SequenceRequest request = TestRequest(TestPrompt(20, 3), 40);
  const Answer whole = alone.Run(request);
  ASSERT_EQ(whole.tokens.size(), 40u);
  // It stops where its 12th answer token makes the second block whole: the dropped row would begin a third.
  request.sampling.stop_token_ids = {static_cast<uint32_t>(whole.tokens[12])};
  ASSERT_EQ(std::find(whole.tokens.begin(), whole.tokens.end(), whole.tokens[12]), whole.tokens.begin() + 12);
  EngineHarness harness({}, model, MakeLate);
  EXPECT_EQ(harness.Run(request).tokens.size(), 12u);
  harness.PumpUntil([&] { return harness.engine().stats().kv_blocks_used == 0; });
  EXPECT_EQ(harness.prefixes().size(), 2u);
  // Whoever asks for the whole conversation gets its two blocks and the text that belongs to them.
  SequenceRequest next = request;
  next.sampling.stop_token_ids.clear();
  const Answer& again = harness.Run(next);
  EXPECT_EQ(again.tokens, whole.tokens);
  EXPECT_EQ(again.cached_prompt_tokens, 16u);
}

TEST(PipelineTest, AStepThatFailsLateEndsItsSequencesAlone) {
  class FailingModel final : public FakeModel {
   public:
    using FakeModel::FakeModel;
    StatusOr<StepTicket> Launch(const Batch& batch) override {
      const bool fails =
          std::find(batch.token_ids.begin(), batch.token_ids.end(), 666) != batch.token_ids.end();
      ASSIGN_OR_RETURN(const StepTicket ticket, FakeModel::Launch(batch));
      if (fails) return absl::InternalError("a kernel failed");
      return ticket;
    }
  };
  EngineHarness harness({}, {}, [](FakeModelOptions options) {
    return std::make_unique<LateModel>(std::make_unique<FailingModel>(options));
  });
  for (int i = 0; i < 3; ++i) {
    const Answer& broken = harness.Run(TestRequest({1, 2, 666}, 5));
    EXPECT_EQ(broken.finish, FinishReason::kError);
    EXPECT_EQ(broken.status, absl::InternalError("a kernel failed"));
    EXPECT_EQ(harness.Run(TestRequest({1, 2, 3}, 5)).tokens.size(), 5u);
  }
  harness.PumpUntil([&] { return harness.engine().stats().kv_blocks_used == 0; });
}

TEST(PipelineTest, ASequenceWhoseAdapterIsOnItsWayToItsSlotHoldsUpNobody) {
  class HeldSlots final : public AdapterSlots {
   public:
    HeldSlots(AdapterSlots* slots, std::atomic<bool>* arrived) : slots_(*slots), arrived_(arrived) {}
    int n_slots() const override { return slots_.n_slots(); }
    void Fill(int slot, std::shared_ptr<const PackedAdapter> adapter) override {
      slots_.Fill(slot, std::move(adapter));
    }
    bool Ready(int) const override { return *arrived_; }
    void Clear(int slot) override { slots_.Clear(slot); }

   private:
    AdapterSlots& slots_;
    std::atomic<bool>* const arrived_;
  };
  class HeldModel final : public FakeModel {
   public:
    HeldModel(FakeModelOptions options, std::atomic<bool>* arrived)
        : FakeModel(std::move(options)), held_(&FakeModel::adapter_slots(), arrived) {}
    AdapterSlots& adapter_slots() override { return held_; }

   private:
    HeldSlots held_;
  };
  std::atomic<bool> arrived{false};
  EngineHarness harness({}, {}, [&](FakeModelOptions options) -> std::unique_ptr<LanguageModel> {
    return std::make_unique<HeldModel>(options, &arrived);
  });
  SequenceRequest adapted = TestRequest(TestPrompt(20, 1), 5);
  adapted.adapters = {{harness.MakeAdapter("a"), 1.0f, "a"}};
  const uint64_t waiting = harness.Submit(adapted);
  harness.PumpUntil([&] { return harness.engine().stats().running > 0; });
  for (int i = 0; i < 20; ++i) EXPECT_EQ(harness.Run(TestRequest(TestPrompt(20, i), 5)).tokens.size(), 5u);
  EXPECT_TRUE(harness.answer(waiting).tokens.empty());
  arrived = true;  // nobody tells the engine
  harness.WaitFinished(waiting);
  EXPECT_EQ(harness.answer(waiting).tokens.size(), 5u);
}

TEST(PipelineTest, TheDeviceHasItsNextStepBeforeTheLastIsCollected) {
  // The model notes how many steps wait when one is collected.
  struct Watch {
    std::atomic<int> waiting{0};
    std::atomic<int> collected_alone{0};
    std::atomic<int> collected{0};
  };
  class WatchingModel final : public ForwardingModel {
   public:
    WatchingModel(FakeModelOptions options, Watch* watch)
        : ForwardingModel(MakeLate(std::move(options))), watch_(watch) {}
    StatusOr<StepTicket> Launch(const Batch& batch) override {
      ++watch_->waiting;
      return ForwardingModel::Launch(batch);
    }
    StatusOr<StepResult> Collect(StepTicket ticket) override {
      ++watch_->collected;
      watch_->collected_alone += --watch_->waiting == 0 ? 1 : 0;
      return ForwardingModel::Collect(ticket);
    }

   private:
    Watch* const watch_;
  };
  Watch watch;
  EngineHarness harness({}, {}, [&](FakeModelOptions options) -> std::unique_ptr<LanguageModel> {
    return std::make_unique<WatchingModel>(options, &watch);
  });
  std::vector<uint64_t> ids;
  for (int i = 0; i < 8; ++i) ids.push_back(harness.Submit(TestRequest(TestPrompt(30, i), 200)));
  for (const uint64_t id : ids) harness.WaitFinished(id);
  EXPECT_GT(watch.collected, 190);
  EXPECT_LE(watch.collected_alone, 12) << "only where nothing was left to launch";
}

}  // namespace
}  // namespace coterie
