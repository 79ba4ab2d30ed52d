// What one request may ask of the engine, and what it gets for a wrong one.
#include "worker/engine/engine.h"

#include <cmath>
#include <limits>

#include "common/clock.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/worker/engine/engine_harness.h"

namespace coterie {
namespace {

using ::testing::HasSubstr;
using ::testing::SizeIs;

TEST(EngineTest, EndsAtMaxTokensAtTheContextsEndAndAtStopTokens) {
  FakeModelOptions model;
  model.context_length = 64;
  EngineHarness harness({}, model);
  EXPECT_EQ(harness.Run(TestRequest(TestPrompt(10, 1), 7)).tokens.size(), 7u);
  const Answer full = harness.Run(TestRequest(TestPrompt(50, 1), 1000));
  EXPECT_EQ(full.tokens.size(), 14u);
  EXPECT_EQ(full.finish, FinishReason::kLength);
  SequenceRequest stops = TestRequest(TestPrompt(50, 1), 1000);
  stops.sampling.stop_token_ids = {static_cast<uint32_t>(full.tokens[5])};
  const Answer& stopped = harness.Run(stops);
  EXPECT_EQ(stopped.finish, FinishReason::kStop);
  EXPECT_EQ(stopped.stop_token, full.tokens[5]);
  EXPECT_EQ(stopped.tokens, std::vector<int32_t>(full.tokens.begin(), full.tokens.begin() + 5));
}

TEST(EngineTest, EndOfTextEndsUnlessIgnored) {
  FakeModelOptions model;
  model.eos_token_ids = {3};
  EngineHarness harness({}, model);
  SequenceRequest request = TestRequest(TestPrompt(10, 1), 5);
  request.sampling.logit_bias = {{3, 100.0f}};
  const Answer ended = harness.Run(request);
  EXPECT_EQ(ended.finish, FinishReason::kStop);
  EXPECT_EQ(ended.stop_token, 3);
  EXPECT_TRUE(ended.tokens.empty());
  request.sampling.ignore_eos = true;
  EXPECT_EQ(harness.Run(request).tokens, (std::vector<int32_t>{3, 3, 3, 3, 3}));
}

TEST(EngineTest, LogprobsComeWithEveryToken) {
  EngineHarness harness;
  SequenceRequest request = TestRequest(TestPrompt(10, 1), 6);
  request.sampling.logprobs = 3;
  const Answer& answer = harness.Run(request);
  ASSERT_EQ(answer.logprobs.size(), 6u);
  for (size_t i = 0; i < 6; ++i) {
    ASSERT_EQ(answer.logprobs[i].size(), 4u);
    EXPECT_EQ(answer.logprobs[i][0].token, answer.tokens[i]);
    EXPECT_EQ(answer.logprobs[i][1].token, answer.tokens[i]) << "greedy: the most probable one";
    EXPECT_GE(answer.logprobs[i][2].logprob, answer.logprobs[i][3].logprob);
  }
}

TEST(EngineTest, OnlyAllowedTokensAreChosen) {
  EngineHarness harness;
  SequenceRequest request = TestRequest(TestPrompt(10, 1), 50);
  request.allowed_tokens.assign(static_cast<size_t>(MaskWords(1000)), 0);
  for (const int token : {5, 64, 999}) request.allowed_tokens[token / 32] |= 1u << (token % 32);
  for (const float temperature : {0.0f, 1.0f}) {
    request.sampling.temperature = temperature;
    const uint64_t free = harness.Submit(TestRequest(TestPrompt(10, 1), 50));  // beside it
    const Answer& answer = harness.Run(request);
    EXPECT_THAT(answer.tokens, SizeIs(50));
    EXPECT_THAT(answer.tokens, ::testing::Each(::testing::AnyOf(5, 64, 999)));
    harness.WaitFinished(free);
    EXPECT_THAT(harness.answer(free).tokens,
                ::testing::Contains(::testing::Not(::testing::AnyOf(5, 64, 999))));
  }
}

TEST(EngineTest, ScoringGivesThePromptsLogprobsWhateverTheChunksAndTheCache) {
  SequenceRequest request = TestRequest(TestPrompt(100, 1), 1);
  request.sampling.logprobs = 1;
  request.prompt_logprobs_from = 0;
  request.score_only = true;
  EngineHarness whole;
  const Answer reference = whole.Run(request);
  EXPECT_EQ(reference.finish, FinishReason::kStop);
  EXPECT_TRUE(reference.tokens.empty());
  ASSERT_EQ(reference.prompt_logprobs.size(), 99u);  // the first token has none
  EXPECT_EQ(reference.prompt_logprobs.begin()->first, 1u);
  for (const auto& [position, scored] : reference.prompt_logprobs) {
    ASSERT_EQ(scored.size(), 2u);
    EXPECT_EQ(scored[0].token, request.prompt_ids[position]);
  }
  auto same = [&](const Answer& answer, uint32_t from) {
    ASSERT_EQ(answer.prompt_logprobs.size(), 100 - from);
    for (const auto& [position, scored] : answer.prompt_logprobs) {
      EXPECT_GE(position, from);
      EXPECT_EQ(scored[0].logprob, reference.prompt_logprobs.at(position)[0].logprob) << position;
      EXPECT_EQ(scored[1].token, reference.prompt_logprobs.at(position)[1].token) << position;
    }
  };
  request.prompt_logprobs_from = 70;
  const Answer& cached = whole.Run(request);
  EXPECT_EQ(cached.cached_prompt_tokens, 64u);  // the row of token 69 scores token 70
  same(cached, 70);
  EngineOptions options;
  options.max_seqs = 2;
  options.max_batch_tokens = 11;
  options.max_logit_rows = 3;  // scoring goes in bites of three rows
  EngineHarness chunked(options);
  request.prompt_logprobs_from = 1;
  const uint64_t scored = chunked.Submit(request);
  const uint64_t beside = chunked.Submit(TestRequest(TestPrompt(30, 2), 40));
  chunked.WaitFinished(scored);
  chunked.WaitFinished(beside);
  same(chunked.answer(scored), 1);
}

TEST(EngineTest, AGenerationMayReportItsPromptToo) {
  EngineHarness harness;
  SequenceRequest request = TestRequest(TestPrompt(40, 1), 5);
  request.prompt_logprobs_from = 20;
  const Answer& answer = harness.Run(request);
  EXPECT_EQ(answer.tokens.size(), 5u);
  EXPECT_EQ(answer.prompt_logprobs.size(), 20u);
}

TEST(EngineTest, WhoWaitsForAReaderIsNotCountedAsAQueue) {
  EngineHarness harness;
  std::vector<uint64_t> ids;
  for (int i = 0; i < 3; ++i) {
    SequenceRequest request = TestRequest(TestPrompt(10, i), 20);
    request.initial_credit = 4;
    ids.push_back(harness.Submit(std::move(request)));
  }
  harness.PumpUntil([&] { return harness.engine().stats().paused == 3; });
  EXPECT_EQ(harness.engine().stats().waiting, 0u);
  EXPECT_EQ(harness.engine().stats().running, 0u);
  for (uint64_t id : ids) harness.engine().AddCredit(id, 100);
  for (uint64_t id : ids) harness.WaitFinished(id);
  harness.PumpUntil([&] { return harness.engine().stats().paused == 0; });
}

TEST(EngineTest, ASequenceMayBePreparedAheadOfItsSubmission) {
  EngineHarness harness;
  SequenceRequest request = TestRequest(TestPrompt(100, 1), 5);
  const std::vector<int32_t> expected = harness.Run(request).tokens;
  auto prepared = harness.engine().Prepare(request);
  ASSERT_TRUE(prepared.ok()) << prepared.status();
  EXPECT_EQ((*prepared)->rows[0].keys.size(), 6u) << "hashed by now";
  (*prepared)->request.id = 1000;
  ASSERT_TRUE(harness.engine().Submit(*std::move(prepared)).ok());
  harness.WaitFinished(1000);
  EXPECT_EQ(harness.answer(1000).tokens, expected);
  request.prompt_ids.clear();
  EXPECT_EQ(harness.engine().Prepare(request).status().code(), absl::StatusCode::kInvalidArgument);
}

TEST(EngineTest, RefusesWhatIsOutOfBoundsNamingIt) {
  FakeModelOptions model;
  model.context_length = 100;
  EngineOptions options;
  options.adapters.n_slots = 2;
  EngineHarness harness(options, model);
  auto expect = [&](const std::function<void(SequenceRequest&)>& change, const std::string& message) {
    SequenceRequest request = TestRequest(TestPrompt(10, 1), 5);
    change(request);
    const Status status = harness.TrySubmit(request);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << message;
    EXPECT_THAT(std::string(status.message()), HasSubstr(message));
  };
  expect([](auto& r) { r.prompt_ids.clear(); }, "the prompt has no tokens");
  expect([](auto& r) { r.prompt_ids = TestPrompt(100, 1); },
         "the prompt has 100 tokens; this worker has room for 100");
  expect([](auto& r) { r.prompt_ids[3] = 1000; },
         "token id 1000 in the prompt; the vocabulary has 1000 tokens");
  expect([](auto& r) { r.prompt_ids[3] = -1; }, "token id -1");
  expect([](auto& r) { r.resume_ids = {5000}; }, "token id 5000");
  expect([](auto& r) { r.allowed_tokens = {1}; },
         "allowed_tokens has 1 words; a vocabulary of 1000 tokens has 32");
  expect([](auto& r) { r.allowed_tokens.assign(32, 0); }, "allowed_tokens lets no token be chosen");
  expect([](auto& r) { r.priority = 101; }, "priority is 101; it must be in [-100, 100]");
  expect([](auto& r) { r.priority = std::numeric_limits<int>::min(); }, "priority is -2147483648");
  expect([](auto& r) { r.cache_salt.assign(257, 'x'); }, "cache_salt has 257 bytes");
  expect([](auto& r) { r.adapters.resize(3); }, "uses 3 adapters; this worker combines at most 2");
  expect([](auto& r) { r.adapters.resize(1); }, "digest is empty");
  expect([](auto& r) { r.adapters = {{Sha256("x"), NAN, ""}}; }, "weight of adapter");
  expect(
      [](auto& r) {
        r.adapters = {{Sha256("x"), 0.0f, ""}};
      },
      "is 0 (or was not set): it would change nothing");
  const auto expect_mixture = [&](std::vector<MixtureMember> members, const std::string& message) {
    expect(
        [&](auto& r) {
          r.adapters = {{Sha256("x"), 1.0f, ""}, {Sha256("y"), 1.0f, ""}};
          r.mixture = members;
        },
        message);
  };
  expect_mixture({{1, 0.5f}, {1, 0.25f}},
                 "the weights of the mixture's 2 members sum to 0.75; they must sum to 1");
  expect_mixture({{1, 1.0f}, {1, 0.0f}}, "the weight of member 2 of the mixture is 0; it must be above 0");
  expect_mixture({{1, 1.5f}, {1, -0.5f}}, "the weight of member 2 of the mixture is -0.5");
  expect_mixture({{1, NAN}, {1, 0.5f}}, "the weight of member 1 of the mixture is nan");
  expect_mixture({{1, 0.5f}, {2, 0.5f}}, "the mixture's members use 3 adapters; the sequence brings 2");
  expect_mixture({{1, 0.5f}, {0, 0.5f}}, "the mixture's members use 1 adapters; the sequence brings 2");
  expect_mixture(std::vector<MixtureMember>(17, {0, 1.0f / 17}),
                 "the mixture has 17 members; this worker mixes at most 16 at a time");
  const auto expect_gate = [&](Gate gate, const std::string& message) {
    expect(
        [&](auto& r) {
          r.adapters = {{Sha256("x"), 1.0f, ""}, {Sha256("y"), 1.0f, ""}};
          r.gate = gate;
        },
        message);
  };
  expect_gate({GateKind::kArrow, 0}, "the gate's top_k is 0; it must be 1 to 2, the number of adapters");
  expect_gate({GateKind::kNoisy, 3}, "the gate's top_k is 3; it must be 1 to 2");
  expect_gate({GateKind::kNoisy, -1}, "the gate's top_k is -1");
  expect_gate({GateKind::kGateless, 1}, "the gate's top_k is 1; gateless uses all 2 adapters");
  expect([](auto& r) { r.gate = {GateKind::kArrow, 1}; }, "the gate has no adapters to weigh");
  expect(
      [](auto& r) {
        r.adapters = {{Sha256("x"), 1.0f, ""}};
        r.mixture = {{1, 1.0f}};
        r.gate = {GateKind::kArrow, 1};
      },
      "a mixture has no gate");
  expect([](auto& r) { r.sampling.max_tokens = 0; }, "max_tokens is 0");
  expect([](auto& r) { r.score_only = true; }, "score_only without prompt_logprobs_from");
  expect([](auto& r) { r.prompt_logprobs_from = 10; },
         "prompt_logprobs_from is 10; the prompt has 10 tokens");
}

TEST(EngineTest, RefusesGatesThatTheModelLacksByName) {
  for (const bool any : {true, false}) {
    FakeModelOptions model;
    model.gates.clear();
    if (any) model.gates = {GateKind::kGateless, GateKind::kNoisy};
    EngineHarness harness({}, model);
    SequenceRequest request = TestRequest(TestPrompt(10, 1), 5);
    request.adapters = {{harness.MakeAdapter("a"), 1.0f, "a"}};
    request.gate = {GateKind::kArrow, 1};
    const Status status = harness.TrySubmit(request);
    EXPECT_EQ(status.code(), absl::StatusCode::kUnimplemented);
    EXPECT_THAT(
        std::string(status.message()),
        HasSubstr(any ? "this worker has no gate arrow; it has gateless, noisy (arrow: a worker on a CPU "
                        "with --arrow-gates)"
                      : "this worker has no gate arrow; it has none"));
    request.gate.kind = static_cast<GateKind>(77);
    EXPECT_EQ(harness.TrySubmit(request).code(), absl::StatusCode::kUnimplemented);
    request.gate = {GateKind::kNoisy, 1};
    EXPECT_EQ(harness.TrySubmit(request).ok(), any);
  }
}

TEST(EngineTest, KvUnderAGateIsOfThatGateAlone) {
  EngineHarness harness;
  SequenceRequest request = TestRequest(TestPrompt(40, 1), 5);
  request.adapters = {{harness.MakeAdapter("a"), 1.0f, "a"}, {harness.MakeAdapter("b"), 1.0f, "b"}};
  for (const Gate& gate :
       {Gate{}, Gate{GateKind::kGateless, 2}, Gate{GateKind::kArrow, 2}, Gate{GateKind::kArrow, 1},
        Gate{GateKind::kNoisy, 1, 1}, Gate{GateKind::kNoisy, 1, 2}}) {
    request.gate = gate;
    EXPECT_EQ(harness.Run(request).cached_prompt_tokens, 0u) << NameOf(gate.kind);
    EXPECT_EQ(harness.Run(request).cached_prompt_tokens, 32u) << NameOf(gate.kind);
  }
}

TEST(EngineTest, AFullQueueSaysSoAndTakesMoreWhenItEmpties) {
  EngineOptions options;
  options.max_seqs = 2;
  options.max_waiting = 3;
  FakeModelOptions model;
  model.step_time = absl::Milliseconds(2);
  EngineHarness harness(options, model);
  std::vector<uint64_t> ids;
  for (int i = 0; i < 5; ++i) ids.push_back(harness.Submit(TestRequest(TestPrompt(5, i), 50)));
  const Status full = harness.TrySubmit(TestRequest(TestPrompt(5, 9), 50));
  EXPECT_EQ(full.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(full.message()), HasSubstr("holds 5 sequences (2 running, 3 waiting)"));
  for (uint64_t id : ids) harness.WaitFinished(id);
  EXPECT_EQ(harness.Run(TestRequest(TestPrompt(5, 9), 5)).tokens.size(), 5u);
}

TEST(EngineTest, CancelFreesTheKvAtOnceWhereverTheSequenceIs) {
  FakeModelOptions model;
  model.step_time = absl::Milliseconds(1);
  EngineOptions options;
  options.max_seqs = 1;
  EngineHarness harness(options, model);
  const uint64_t running = harness.Submit(TestRequest(TestPrompt(100, 1), 3000));
  const uint64_t waiting = harness.Submit(TestRequest(TestPrompt(100, 2), 3000));
  harness.PumpUntil([&] { return harness.answer(running).tokens.size() > 3; });
  SequenceRequest poor = TestRequest(TestPrompt(100, 3), 3000);
  harness.engine().Cancel(running);
  harness.engine().Cancel(waiting);
  harness.WaitFinished(running);
  harness.WaitFinished(waiting);
  EXPECT_EQ(harness.answer(running).finish, FinishReason::kCancelled);
  EXPECT_EQ(harness.answer(waiting).finish, FinishReason::kCancelled);
  harness.PumpUntil([&] { return harness.engine().stats().kv_blocks_used == 0; });
  poor.initial_credit = 5;
  const uint64_t paused = harness.Submit(poor);
  harness.PumpUntil([&] { return harness.answer(paused).tokens.size() == 5; });
  EXPECT_GT(harness.engine().stats().kv_blocks_used, 0u);
  harness.engine().Cancel(paused);
  harness.engine().Cancel(12345);  // unknown: ignored
  harness.WaitFinished(paused);
  harness.PumpUntil([&] { return harness.engine().stats().kv_blocks_used == 0; });
}

TEST(EngineTest, ADeadlineEndsARunningAWaitingAndAPausedSequence) {
  FakeModelOptions model;
  model.step_time = absl::Milliseconds(1);
  EngineOptions options;
  options.max_seqs = 1;
  EngineHarness harness(options, model);
  SequenceRequest request = TestRequest(TestPrompt(10, 1), 4000);
  request.deadline = MonotonicNow() + absl::Milliseconds(100);
  const uint64_t running = harness.Submit(request);
  const uint64_t waiting = harness.Submit(request);
  harness.WaitFinished(running);
  harness.WaitFinished(waiting);
  EXPECT_EQ(harness.answer(running).finish, FinishReason::kDeadline);
  EXPECT_FALSE(harness.answer(running).tokens.empty());
  EXPECT_EQ(harness.answer(waiting).finish, FinishReason::kDeadline);
  request.initial_credit = 2;
  request.deadline = MonotonicNow() + absl::Milliseconds(100);
  const Answer& paused = harness.Run(request);  // the loop sleeps until the deadline
  EXPECT_EQ(paused.finish, FinishReason::kDeadline);
  EXPECT_EQ(paused.tokens.size(), 2u);
}

TEST(EngineTest, CreditBoundsWhatIsGeneratedAndMayBeRestated) {
  EngineHarness harness;
  SequenceRequest request = TestRequest(TestPrompt(20, 1), 60);
  const std::vector<int32_t> expected = harness.Run(request).tokens;
  request.initial_credit = 0;
  const uint64_t id = harness.Submit(request);
  auto settle = [&](size_t n) {
    harness.PumpFor(absl::Milliseconds(30));
    EXPECT_EQ(harness.answer(id).tokens.size(), n);
  };
  settle(0);
  harness.engine().AddCredit(id, 1);
  settle(1);
  harness.engine().AddCredit(id, 20);
  settle(21);
  harness.engine().SetCreditUntil(id, 15);  // already passed: nothing more
  settle(21);
  harness.engine().SetCreditUntil(id, 30);
  settle(30);
  harness.engine().AddCredit(id, std::numeric_limits<uint32_t>::max());
  harness.WaitFinished(id);
  EXPECT_EQ(harness.answer(id).tokens, expected);
}

TEST(EngineTest, EndAllHandsEverySequenceOverWithTheReason) {
  FakeModelOptions model;
  model.step_time = absl::Milliseconds(1);
  EngineHarness harness({}, model);
  std::vector<uint64_t> ids;
  for (int i = 0; i < 40; ++i) ids.push_back(harness.Submit(TestRequest(TestPrompt(20, i), 3000)));
  harness.PumpUntil([&] { return harness.answer(ids[0]).tokens.size() > 2; });
  harness.engine().EndAll(absl::UnavailableError("draining"));
  for (uint64_t id : ids) {
    harness.WaitFinished(id);
    EXPECT_EQ(harness.answer(id).finish, FinishReason::kError);
    EXPECT_EQ(harness.answer(id).status, absl::UnavailableError("draining"));
  }
}

// Fails every step that computes token 666, and gives no finite logits after token 667.
class BrokenModel : public FakeModel {
 public:
  using FakeModel::FakeModel;
  StatusOr<StepTicket> Launch(const Batch& batch) override {
    for (int32_t token : batch.token_ids) {
      if (token == 666) return absl::InternalError("a kernel failed");
    }
    return FakeModel::Launch(batch);
  }

 private:
  void ChangeRow(const Batch& batch, int, std::span<float> logits) override {
    if (batch.token_ids.back() == 667) std::fill(logits.begin(), logits.end(), NAN);
  }
};

TEST(EngineTest, AFailingStepEndsItsSequencesAndNotTheEngine) {
  EngineHarness harness({}, {},
                        [](FakeModelOptions options) { return std::make_unique<BrokenModel>(options); });
  const Answer& broken = harness.Run(TestRequest({1, 2, 666}, 5));
  EXPECT_EQ(broken.finish, FinishReason::kError);
  EXPECT_EQ(broken.status, absl::InternalError("a kernel failed"));
  const Answer& nan = harness.Run(TestRequest({1, 2, 667}, 5));
  EXPECT_EQ(nan.finish, FinishReason::kError);
  EXPECT_THAT(std::string(nan.status.message()), HasSubstr("logits at answer position 0 are not finite"));
  EXPECT_EQ(harness.Run(TestRequest({1, 2, 3}, 5)).tokens.size(), 5u);
  EXPECT_EQ(harness.engine().stats().kv_blocks_used, 0u);
}

TEST(EngineTest, OptionsOutOfRangeAreNamed) {
  FakeModel model({});
  auto create = [&](const std::function<void(EngineOptions&)>& change) {
    EngineOptions options;
    change(options);
    return std::string(Engine::Create(options, &model, nullptr).status().message());
  };
  EXPECT_THAT(create([](auto& o) { o.max_batch_tokens = 32; }), HasSubstr("max_batch_tokens is 32"));
  EXPECT_THAT(create([](auto& o) { o.max_seqs = 0; }), HasSubstr("max_seqs is 0"));
  EXPECT_THAT(create([](auto& o) { o.max_waiting = -1; }), HasSubstr("max_waiting is -1"));
  EXPECT_THAT(create([](auto& o) { o.max_logit_rows = 5; }), HasSubstr("max_logit_rows is 5"));
  EXPECT_THAT(create([](auto& o) { o.adapters.n_slots = 0; }), HasSubstr("adapter slots: 0"));
  EXPECT_THAT(create([](auto& o) { o.adapters.n_loader_threads = 99; }), HasSubstr("loader threads: 99"));
}

TEST(EngineTest, EndsWithSequencesInEveryState) {
  FakeModelOptions model;
  model.step_time = absl::Milliseconds(1);
  model.load_time = absl::Milliseconds(50);
  EngineOptions options;
  options.max_seqs = 2;
  EngineHarness harness(options, model);
  SequenceRequest request = TestRequest(TestPrompt(20, 1), 3000);
  harness.Submit(request);
  harness.Submit(request);
  harness.Submit(request);
  request.initial_credit = 0;
  harness.Submit(request);
  request.adapters = {{harness.MakeAdapter("a"), 1.0f, "a"}};
  harness.Submit(request);
  harness.PumpFor(absl::Milliseconds(20));
  harness.StopEngine();  // no crash, no leak (asan), no thread left behind
}

}  // namespace
}  // namespace coterie
