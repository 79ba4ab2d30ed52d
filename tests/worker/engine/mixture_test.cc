// Sequences whose tokens are drawn from a mixture of several members: what they say, how they share a step
// with others, and that every row comes and goes with the rest.
#include <functional>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/worker/engine/engine_harness.h"
#include "tests/worker/engine/forwarding_model.h"

namespace coterie {
namespace {

using ::testing::HasSubstr;

SequenceRequest MixtureOf(EngineHarness* harness, const std::vector<std::string>& names, int n_prompt,
                          uint32_t max_tokens) {
  SequenceRequest request = TestRequest(TestPrompt(n_prompt, 3), max_tokens);
  for (const std::string& name : names) {
    request.adapters.push_back({harness->MakeAdapter(name), 1.0f, name});
    request.mixture.push_back({1, 1.0f / static_cast<float>(names.size())});
  }
  return request;
}

bool NothingIsHeld(EngineHarness* harness) {
  const EngineStats& stats = harness->engine().stats();
  return stats.kv_blocks_used == 0 && stats.running == 0 && stats.waiting == 0 && stats.paused == 0;
}

TEST(MixtureTest, OfOneMemberIsThatMember) {
  for (const float temperature : {0.0f, 1.0f}) {
    EngineHarness harness;
    SequenceRequest mixture = MixtureOf(&harness, {"a"}, 40, 20);
    mixture.sampling.temperature = temperature;
    mixture.sampling.logprobs = 3;
    SequenceRequest alone = mixture;
    alone.mixture.clear();
    const Answer expected = harness.Run(alone);
    const Answer& answer = harness.Run(mixture);
    EXPECT_EQ(answer.tokens, expected.tokens);
    EXPECT_EQ(answer.cached_prompt_tokens, 32u) << "one and the same cache";
    ASSERT_EQ(answer.logprobs.size(), expected.logprobs.size());
    for (size_t i = 0; i < expected.logprobs.size(); ++i) {
      for (size_t j = 0; j < expected.logprobs[i].size(); ++j) {
        EXPECT_EQ(answer.logprobs[i][j].token, expected.logprobs[i][j].token);
        EXPECT_EQ(answer.logprobs[i][j].logprob, expected.logprobs[i][j].logprob);
      }
    }
  }
}

TEST(MixtureTest, SaysWhatTheHeavierMemberWouldAndNotWhatEitherSaysAlone) {
  EngineHarness harness;
  SequenceRequest mixture = MixtureOf(&harness, {"a", "b"}, 40, 12);
  std::vector<std::vector<int32_t>> texts;
  for (const float weight : {0.75f, 0.25f}) {
    mixture.mixture = {{1, weight}, {1, 1 - weight}};
    texts.push_back(harness.Run(mixture).tokens);
  }
  for (const size_t member : {size_t{0}, size_t{1}}) {
    SequenceRequest alone = mixture;
    alone.mixture.clear();
    alone.adapters = {mixture.adapters[member]};
    const std::vector<int32_t> text = harness.Run(alone).tokens;
    EXPECT_EQ(texts[member], text) << "the fake model puts nearly all mass on one token";
  }
  EXPECT_NE(texts[0], texts[1]);
}

TEST(MixtureTest, MembersUseThePrefixesOfTheirAdaptersAndLeaveTheirOwn) {
  EngineHarness harness;
  SequenceRequest mixture = MixtureOf(&harness, {"a", "b"}, 70, 4);
  SequenceRequest alone = mixture;
  alone.mixture.clear();
  alone.adapters = {mixture.adapters[0]};
  harness.Run(alone);
  EXPECT_EQ(harness.Run(mixture).cached_prompt_tokens, 0u) << "cached for one member of two";
  EXPECT_EQ(harness.Run(mixture).cached_prompt_tokens, 64u);
  alone.adapters = {mixture.adapters[1]};
  EXPECT_EQ(harness.Run(alone).cached_prompt_tokens, 64u);
  EXPECT_EQ(harness.engine().stats().prefix_hit_tokens, 3 * 64u) << "two rows of the mixture, and one";
}

// While each seat that becomes free could be taken by another sequence.
TEST(MixtureTest, FindsAllItsSeatsAmongOthersThatNeverStopComing) {
  EngineOptions options;
  options.max_seqs = 3;
  EngineHarness harness(options);
  const SequenceRequest mixture = MixtureOf(&harness, {"a", "b", "c"}, 10, 5);
  int n_submitted = 0;
  const auto submit = [&] {
    ++n_submitted;
    harness.Submit(TestRequest(TestPrompt(5, n_submitted), static_cast<uint32_t>(3 + n_submitted % 5)));
  };
  harness.HoldSteps();
  for (int i = 0; i < 6; ++i) submit();
  const uint64_t id = harness.Submit(mixture);
  harness.on_event = [&](const OutputEvent& event) {
    if (event.kind == OutputEvent::Kind::kFinish && n_submitted < 2000) submit();
  };
  harness.LetStepsGo();
  harness.WaitFinished(id);
  EXPECT_EQ(harness.answer(id).tokens.size(), 5u);
  EXPECT_LT(n_submitted, 1000);
}

TEST(MixtureTest, CancelledAnywhereItLeavesNothingBehind) {
  EngineOptions options;
  options.max_seqs = 4;
  EngineHarness harness(options);
  SequenceRequest mixture = MixtureOf(&harness, {"a", "b", "c"}, 100, 2000);
  for (const size_t n_tokens : {size_t{0}, size_t{1}, size_t{20}}) {
    const uint64_t id = harness.Submit(mixture);
    const uint64_t waiting = harness.Submit(mixture);  // for want of seats
    harness.PumpUntil([&] { return harness.answer(id).tokens.size() >= n_tokens; });
    harness.engine().Cancel(waiting);
    harness.engine().Cancel(id);
    harness.WaitFinished(id);
    harness.WaitFinished(waiting);
    EXPECT_EQ(harness.answer(id).finish, FinishReason::kCancelled);
    harness.PumpUntil([&] { return NothingIsHeld(&harness); });
  }
  mixture.sampling.max_tokens = 50;
  EXPECT_EQ(harness.Run(mixture).tokens.size(), 50u);
}

TEST(MixtureTest, WithoutCreditItPausesAndGoesOnAsOne) {
  EngineHarness harness;
  SequenceRequest mixture = MixtureOf(&harness, {"a", "b"}, 30, 20);
  const std::vector<int32_t> whole = harness.Run(mixture).tokens;
  mixture.initial_credit = 3;
  const uint64_t id = harness.Submit(mixture);
  harness.PumpUntil(
      [&] { return harness.engine().stats().paused == 1 && harness.answer(id).tokens.size() >= 3; });
  EXPECT_EQ(harness.answer(id).tokens.size(), 3u);
  EXPECT_EQ(harness.engine().stats().running, 0u);
  harness.engine().AddCredit(id, 100);
  harness.WaitFinished(id);
  EXPECT_EQ(harness.answer(id).tokens, whole);
}

TEST(MixtureTest, AMemberThatCannotBeLoadedEndsItByName) {
  EngineHarness harness;
  SequenceRequest mixture = MixtureOf(&harness, {"a", "b"}, 30, 20);
  mixture.adapters[1] = {Sha256("missing"), 1.0f, "missing"};
  const Answer& answer = harness.Run(mixture);
  EXPECT_EQ(answer.finish, FinishReason::kError);
  EXPECT_EQ(answer.status.code(), absl::StatusCode::kNotFound);
  harness.PumpUntil([&] { return NothingIsHeld(&harness); });
}

TEST(MixtureTest, OneMemberThatIsNotFiniteEndsItNamingTheExperts) {
  class SpoiltModel final : public FakeModel {
   public:
    using FakeModel::FakeModel;

   private:
    void ChangeRow(const Batch& batch, int seq, std::span<float> row) override {
      if (batch.n_seqs() == 2 && seq == 1) row[5] = NAN;
    }
  };
  EngineHarness harness({}, {},
                        [](FakeModelOptions options) { return std::make_unique<SpoiltModel>(options); });
  const Answer& answer = harness.Run(MixtureOf(&harness, {"good", "diverged"}, 30, 20));
  EXPECT_EQ(answer.finish, FinishReason::kError);
  EXPECT_THAT(std::string(answer.status.message()),
              HasSubstr("under a mixture of experts \"good\" (adapter"));
  EXPECT_THAT(std::string(answer.status.message()), HasSubstr("ask without the one that diverged"));
  EXPECT_EQ(harness.engine().stats().not_finite, 1u);
}

// Each member has KV of its own: the room of a sequence is divided among them.
TEST(MixtureTest, ItsRoomIsItsShareOfTheBlocks) {
  FakeModelOptions model;
  model.n_kv_blocks = 10;
  EngineHarness harness({}, model);
  SequenceRequest mixture = MixtureOf(&harness, {"a", "b", "c"}, 40, 200);
  const Answer& answer = harness.Run(mixture);
  EXPECT_EQ(answer.finish, FinishReason::kLength);
  EXPECT_EQ(answer.tokens.size(), 8u) << "three blocks for each of three members";
  mixture.prompt_ids = TestPrompt(48, 1);
  const Status status = harness.TrySubmit(mixture);
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()),
              HasSubstr("the prompt has 48 tokens; this worker has room for 48 for each of 3 members"));
}

TEST(MixtureTest, ScoresThePromptOfAnAnswerAsItWasChosen) {
  EngineHarness harness;
  SequenceRequest mixture = MixtureOf(&harness, {"a", "b"}, 37, 12);
  mixture.sampling.temperature = 1.5f;
  mixture.sampling.logprobs = 1;
  const Answer generated = harness.Run(mixture);
  ASSERT_EQ(generated.logprobs.size(), 12u);
  SequenceRequest score = mixture;
  score.prompt_ids.insert(score.prompt_ids.end(), generated.tokens.begin(), generated.tokens.end());
  score.prompt_logprobs_from = 37;
  score.score_only = true;
  const Answer& scored = harness.Run(score);
  ASSERT_EQ(scored.finish, FinishReason::kStop) << scored.status;
  ASSERT_EQ(scored.prompt_logprobs.size(), 12u);
  for (uint32_t i = 0; i < 12; ++i) {
    const std::vector<TokenLogprob>& position = scored.prompt_logprobs.at(37 + i);
    ASSERT_EQ(position.size(), 2u);
    EXPECT_EQ(position[0].token, generated.tokens[i]);
    EXPECT_EQ(position[0].logprob, generated.logprobs[i][0].logprob);
    EXPECT_EQ(position[1].logprob, generated.logprobs[i][1].logprob);
  }
}

// A step without mixtures asks the model for nothing that it would not without this feature.
TEST(MixtureTest, AStepOfPlainSequencesMixesNothing) {
  class WatchingModel final : public ForwardingModel {
   public:
    WatchingModel(std::unique_ptr<LanguageModel> model, std::atomic<int>* n_mixed)
        : ForwardingModel(std::move(model)), n_mixed_(n_mixed) {}
    StatusOr<StepTicket> Launch(const Batch& batch) override {
      EXPECT_EQ(batch.sampling.size(), batch.logit_rows.size());
      for (const RowSampling& row : batch.sampling) {
        if (row.mix_weight != 0 || row.mix_rows != 1) ++*n_mixed_;
      }
      return ForwardingModel::Launch(batch);
    }

   private:
    std::atomic<int>* const n_mixed_;
  };
  std::atomic<int> n_mixed = 0;
  EngineHarness harness({}, {}, [&](FakeModelOptions options) {
    return std::make_unique<WatchingModel>(std::make_unique<FakeModel>(options), &n_mixed);
  });
  SequenceRequest plain = TestRequest(TestPrompt(40, 1), 10);
  plain.adapters = {{harness.MakeAdapter("a"), 0.5f, "a"}, {harness.MakeAdapter("b"), 0.5f, "b"}};
  harness.Run(plain);
  EXPECT_EQ(n_mixed, 0);
  harness.Run(MixtureOf(&harness, {"a", "b"}, 40, 10));
  EXPECT_EQ(n_mixed, 2 * 10);
}

}  // namespace
}  // namespace coterie
