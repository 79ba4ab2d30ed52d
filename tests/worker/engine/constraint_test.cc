// Sequences whose text is held to a constraint: what they say whatever else the engine does, and that nobody
// waits for them.
#include <atomic>
#include <random>

#include "absl/strings/numbers.h"
#include "absl/time/clock.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/batch.h"
#include "model/grammar/token_matcher.h"
#include "tests/worker/engine/engine_harness.h"

namespace coterie {
namespace {

using ::testing::HasSubstr;

constexpr int32_t kEnd = 5;
constexpr int kModulus = 7;

// "12": twelve tokens, the one at position p with a remainder of p by 7; then the end.
// "12 open": nothing says that it ends. "stuck": no token can follow the third. "bad": refused.
class CountingMatchers : public MatcherSource {
 public:
  std::atomic<int> fill_micros{0};
  std::atomic<bool> hold_fills{false}, hold_makes{false};  // until they are let go

  StatusOr<std::unique_ptr<TokenMatcher>> Make(const Constraint& constraint) override {
    while (hold_makes) absl::SleepFor(absl::Milliseconds(1));
    if (constraint.text == "bad") return absl::InvalidArgumentError("bad is not served");
    auto matcher = std::make_unique<Matcher>(this);
    matcher->stuck = constraint.text == "stuck";
    matcher->open = constraint.text.find("open") != std::string::npos;
    matcher->length = std::atoi(constraint.text.c_str());
    return matcher;
  }

 private:
  struct Matcher : TokenMatcher {
    explicit Matcher(CountingMatchers* owner) : owner(*owner) {}
    bool Accept(int32_t token) override {
      if (position == length && !stuck) return token == kEnd;
      return token % kModulus == position++ % kModulus;
    }
    NextTokens Fill(std::span<uint32_t> mask) override {
      if (const int micros = owner.fill_micros; micros > 0) absl::SleepFor(absl::Microseconds(micros));
      while (owner.hold_fills) absl::SleepFor(absl::Milliseconds(1));
      std::fill(mask.begin(), mask.end(), 0);
      if (stuck && position == 3) return NextTokens::kNone;
      if (position == length && open) return NextTokens::kEnd;
      for (int32_t token = 0; token < 1000; ++token) {
        const bool allowed = position == length && !stuck
                                 ? token == kEnd
                                 : token != kEnd && token % kModulus == position % kModulus;
        if (allowed) mask[static_cast<size_t>(token) / 32] |= 1u << (token % 32);
      }
      return NextTokens::kSome;
    }
    CountingMatchers& owner;
    int length = 0, position = 0;
    bool stuck = false, open = false;
  };
};

class ConstraintEngineTest : public ::testing::Test {
 protected:
  std::unique_ptr<EngineHarness> MakeHarness(EngineOptions options = {}, FakeModelOptions model = {}) {
    model.eos_token_ids = {kEnd};
    return std::make_unique<EngineHarness>(options, model, nullptr, &matchers_);
  }
  static SequenceRequest Constrained(int seed, std::string text, float temperature = 0) {
    SequenceRequest request = TestRequest(TestPrompt(20, seed), 60);
    request.sampling.constraint = {Constraint::Kind::kRegex, std::move(text), {}};
    request.sampling.temperature = temperature;
    request.sampling.seed = 11;
    return request;
  }
  static void ExpectCounts(const Answer& answer, size_t length) {
    EXPECT_EQ(answer.finish, FinishReason::kStop) << answer.status;
    ASSERT_EQ(answer.tokens.size(), length);
    for (size_t i = 0; i < length; ++i)
      EXPECT_EQ(answer.tokens[i] % kModulus, static_cast<int>(i) % kModulus);
  }

  CountingMatchers matchers_;
};

TEST_F(ConstraintEngineTest, AnAnswerIsWhatItsConstraintAllowsAndEndsWithIt) {
  const auto harness = MakeHarness();
  for (const float temperature : {0.0f, 1.0f, 5.0f}) {
    const Answer& answer = harness->Run(Constrained(1, "12", temperature));
    ExpectCounts(answer, 12);
    EXPECT_EQ(answer.stop_token, kEnd);
  }
}

TEST_F(ConstraintEngineTest, WithoutAnEndTokenItEndsWhereNothingCanFollow) {
  const auto harness = MakeHarness();
  const Answer& answer = harness->Run(Constrained(1, "9 open"));
  ExpectCounts(answer, 9);
  EXPECT_EQ(answer.stop_token, -1);
}

TEST_F(ConstraintEngineTest, MaxTokensCutsIt) {
  const auto harness = MakeHarness();
  SequenceRequest request = Constrained(1, "50");
  request.sampling.max_tokens = 10;
  const Answer& answer = harness->Run(request);
  EXPECT_EQ(answer.finish, FinishReason::kLength);
  EXPECT_EQ(answer.tokens.size(), 10u);
}

TEST_F(ConstraintEngineTest, SaysTheSameAloneInABatchAndHoweverLateItsMasksAre) {
  std::vector<std::vector<int32_t>> alone;
  {
    const auto harness = MakeHarness();
    for (int i = 0; i < 12; ++i)
      alone.push_back(harness->Run(Constrained(i, std::to_string(5 + 3 * i), i % 2 ? 1.5f : 0)).tokens);
  }
  for (const int micros : {0, 300, 3000}) {
    FakeModelOptions model;
    model.step_time = absl::Microseconds(500);
    const auto harness = MakeHarness({}, model);
    matchers_.fill_micros = micros;
    std::vector<uint64_t> ids, others;
    for (int i = 0; i < 12; ++i) {
      ids.push_back(harness->Submit(Constrained(i, std::to_string(5 + 3 * i), i % 2 ? 1.5f : 0)));
      others.push_back(harness->Submit(TestRequest(TestPrompt(15, 100 + i), 30)));
    }
    for (const uint64_t id : ids) harness->WaitFinished(id);
    for (const uint64_t id : others) harness->WaitFinished(id);
    for (size_t i = 0; i < ids.size(); ++i) {
      EXPECT_EQ(harness->answer(ids[i]).tokens, alone[i]) << i << " with masks of " << micros << " us";
      EXPECT_EQ(harness->answer(others[i]).finish, FinishReason::kLength);
    }
    if (micros == 3000 && !EngineHarness::RunsLate()) {
      EXPECT_GT(harness->engine().stats().late_masks.load(), 0u);
    }
  }
}

// At most one row of a token is computed in vain, and those without a constraint never wait.
TEST_F(ConstraintEngineTest, ALateMaskHoldsUpNobodyElse) {
  FakeModelOptions model;
  model.step_time = absl::Milliseconds(1);
  const auto harness = MakeHarness({}, model);
  const uint64_t slow = harness->Submit(Constrained(1, "40"));
  harness->PumpUntil([&] { return harness->answer(slow).tokens.size() >= 5; });
  matchers_.hold_fills = true;
  harness->Run(TestRequest(TestPrompt(15, 7), 200));
  EXPECT_FALSE(harness->finished(slow));
  EXPECT_LE(harness->engine().stats().late_masks.load(), harness->answer(slow).tokens.size() + 1);
  matchers_.hold_fills = false;
  harness->WaitFinished(slow);
  ExpectCounts(harness->answer(slow), 40);
}

TEST_F(ConstraintEngineTest, GoesOnWithTheSameTextFromTokensThatCameFromElsewhere) {
  const auto harness = MakeHarness();
  const SequenceRequest request = Constrained(3, "25", 1.0f);
  const std::vector<int32_t> whole = harness->Run(request).tokens;
  for (const size_t n : {size_t{1}, size_t{7}, size_t{24}, size_t{25}}) {
    SequenceRequest resumed = request;
    resumed.resume_ids.assign(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(n));
    const Answer& answer = harness->Run(resumed);
    EXPECT_EQ(answer.finish, FinishReason::kStop);
    EXPECT_EQ(answer.tokens,
              std::vector<int32_t>(whole.begin() + static_cast<std::ptrdiff_t>(n), whole.end()))
        << n;
  }
  SequenceRequest wrong = request;
  wrong.resume_ids = {3};
  EXPECT_EQ(harness->Run(wrong).status.code(), absl::StatusCode::kInvalidArgument);
}

TEST_F(ConstraintEngineTest, SaysTheSameWhenItIsPreempted) {
  std::vector<std::vector<int32_t>> alone;
  for (int i = 0; i < 6; ++i) alone.push_back(MakeHarness()->Run(Constrained(i, "55", 1.0f)).tokens);
  FakeModelOptions model;
  model.n_kv_blocks = 14;  // each wants 5 in the end
  const auto harness = MakeHarness({}, model);
  std::vector<uint64_t> ids;
  for (int i = 0; i < 6; ++i) ids.push_back(harness->Submit(Constrained(i, "55", 1.0f)));
  for (size_t i = 0; i < ids.size(); ++i) {
    harness->WaitFinished(ids[i]);
    EXPECT_EQ(harness->answer(ids[i]).tokens, alone[i]) << i;
  }
  EXPECT_GT(harness->engine().stats().preemptions.load(), 0u);
}

TEST_F(ConstraintEngineTest, AMixtureIsHeldToItAsOne) {
  const auto harness = MakeHarness();
  SequenceRequest request = Constrained(1, "20", 1.0f);
  for (const char* name : {"a", "b"}) {
    request.adapters.push_back({harness->MakeAdapter(name), 1.0f, name});
    request.mixture.push_back({1, 0.5f});
  }
  matchers_.fill_micros = 500;
  ExpectCounts(harness->Run(request), 20);
}

TEST_F(ConstraintEngineTest, LogProbabilitiesAndPenaltiesCountEachTokenOnce) {
  const auto harness = MakeHarness();
  SequenceRequest request = Constrained(1, "30", 1.0f);
  request.sampling.logprobs = 2;
  request.sampling.frequency_penalty = 1.5f;
  const Answer prompt = harness->Run(request);
  FakeModelOptions model;
  model.step_time = absl::Microseconds(100);
  const auto late = MakeHarness({}, model);
  matchers_.fill_micros = 1000;
  const Answer& answer = late->Run(request);
  EXPECT_EQ(answer.tokens, prompt.tokens);
  ASSERT_EQ(answer.logprobs.size(), 30u);
  for (size_t i = 0; i < 30; ++i) EXPECT_EQ(answer.logprobs[i][0].token, answer.tokens[i]);
}

TEST_F(ConstraintEngineTest, WhatCannotBeHeldToIsAnError) {
  const auto harness = MakeHarness();
  EXPECT_THAT(std::string(harness->Run(Constrained(1, "bad")).status.message()),
              HasSubstr("bad is not served"));
  const Answer& stuck = harness->Run(Constrained(1, "stuck"));
  EXPECT_EQ(stuck.finish, FinishReason::kError);
  EXPECT_EQ(stuck.tokens.size(), 3u);
  EXPECT_THAT(std::string(stuck.status.message()), HasSubstr("no token for what the constraint asks"));
  ExpectCounts(harness->Run(Constrained(1, "4")), 4);
}

TEST_F(ConstraintEngineTest, IsRefusedWhereItCannotBeServed) {
  EngineHarness without;
  EXPECT_EQ(without.TrySubmit(Constrained(1, "4")).code(), absl::StatusCode::kUnimplemented);
  EXPECT_FALSE(without.engine().takes_constraints());
  const auto harness = MakeHarness();
  EXPECT_TRUE(harness->engine().takes_constraints());
  SequenceRequest request = Constrained(1, "4");
  request.sampling.ignore_eos = true;
  EXPECT_THAT(std::string(harness->TrySubmit(request).message()), HasSubstr("ignore_eos"));
}

TEST_F(ConstraintEngineTest, ASlowCompilationHoldsUpNobodyAndCanBeCancelled) {
  const auto harness = MakeHarness();
  matchers_.hold_makes = true;
  const uint64_t slow = harness->Submit(Constrained(1, "4"));
  const uint64_t dropped = harness->Submit(Constrained(2, "4"));
  harness->engine().Cancel(dropped);
  harness->Run(TestRequest(TestPrompt(15, 7), 50));
  EXPECT_FALSE(harness->finished(slow));
  matchers_.hold_makes = false;
  harness->WaitFinished(slow);
  ExpectCounts(harness->answer(slow), 4);
  EXPECT_EQ(harness->answer(dropped).finish, FinishReason::kCancelled);
}

}  // namespace
}  // namespace coterie
