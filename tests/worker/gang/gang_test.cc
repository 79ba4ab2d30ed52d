// Mixtures whose members are on several workers: engines over fake models in one process, which talk through
// an in-process communicator. What they say is compared with one engine that holds all members.
#include <algorithm>
#include <array>
#include <cmath>
#include <functional>
#include <thread>

#include "common/lost_worker.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/batch.h"
#include "kernels/comm/in_process.h"
#include "kernels/comm/in_process_rendezvous.h"
#include "tests/worker/engine/engine_harness.h"
#include "worker/gang/gangs.h"

namespace coterie {
namespace {

using ::testing::HasSubstr;

// Where the workers of a test meet.
class TestMeeting final : public GangMeeting {
 public:
  Status Open(const GangPlan&) override { return absl::OkStatus(); }
  StatusOr<std::unique_ptr<Communicator>> Join(const GangPlan& plan, absl::Duration timeout,
                                               std::shared_ptr<AbortFlag> abort) override {
    return CreateInProcessCommunicator(network_, rendezvous_,
                                       CommunicatorOf(plan, timeout, std::move(abort)));
  }
  void Close(const GangPlan& plan) override {
    if (plan.rank == 0) rendezvous_->Forget(plan.group);
  }

 private:
  const std::shared_ptr<InProcessNetwork> network_ = std::make_shared<InProcessNetwork>();
  const std::shared_ptr<InProcessRendezvous> rendezvous_ = std::make_shared<InProcessRendezvous>();
};

GangOptions QuickOptions() {
  GangOptions options;
  options.form_timeout = absl::Seconds(2);
  options.call_timeout = absl::Milliseconds(800);
  options.round = absl::Milliseconds(50);
  return options;
}

using MakeModel = std::function<std::unique_ptr<LanguageModel>(FakeModelOptions)>;

// A worker without a port: its engine, and a thread that takes its outputs.
class TestWorker {
 public:
  TestWorker(TestMeeting* meeting, const EngineOptions& engine, const FakeModelOptions& model,
             const GangOptions& options = QuickOptions(), const MakeModel& make_model = nullptr)
      : harness(engine, model, make_model), gangs_(options, &harness.engine(), meeting, &traffic) {
    harness.on_prepared = [this](const Sequence& sequence) {
      return sequence.request.gang && !deaf ? gangs_.Start(sequence) : absl::OkStatus();
    };
    harness.on_event = [this](const OutputEvent& event) { gangs_.OnEvent(event); };
  }

  int n_gangs() const { return gangs_.n_gangs(); }

  EngineHarness harness;
  PeerTraffic traffic;
  bool deaf = false;  // it computes, and says nothing to others

 private:
  Gangs gangs_;
};

class GangTest : public ::testing::Test {
 protected:
  static constexpr int kMembers = 3;

  void MakeWorkers(size_t n, const EngineOptions& engine = {}, const FakeModelOptions& model = {}) {
    for (size_t i = 0; i < n; ++i) workers_.push_back(std::make_unique<TestWorker>(&meeting_, engine, model));
  }

  // A mixture of three experts.
  SequenceRequest Whole(int n_prompt, uint32_t max_tokens) {
    SequenceRequest request = TestRequest(TestPrompt(n_prompt, 3), max_tokens);
    for (const char* name : {"a", "b", "c"}) request.adapters.push_back({Sha256(name), 1.0f, name});
    request.mixture = {{1, 0.5f}, {1, 0.3125f}, {1, 0.1875f}};
    return request;
  }

  // What one engine that holds all members answers.
  Answer Alone(const SequenceRequest& whole, const FakeModelOptions& model = {}) {
    EngineHarness harness({}, model);
    MakeAdapters(&harness);
    return harness.Run(whole);
  }

  static void MakeAdapters(EngineHarness* harness) {
    for (const char* name : {"a", "b", "c"}) harness->MakeAdapter(name);
  }

  // Starts it over workers 0, 1, ...; `parts` says which members each has. Returns the ids there.
  std::vector<uint64_t> Start(const SequenceRequest& whole, const std::vector<std::vector<uint32_t>>& parts,
                              uint32_t top_tokens = 0) {
    GangPlan plan;
    plan.group = absl::StrCat("gang ", ++n_started_);
    plan.top_tokens = top_tokens;
    for (const MixtureMember& member : whole.mixture) plan.weights.push_back(member.weight);
    for (size_t rank = 0; rank < parts.size(); ++rank) {
      plan.workers.push_back({absl::StrCat("worker-", rank), "", parts[rank]});
    }
    std::vector<uint64_t> ids;
    for (size_t rank = 0; rank < parts.size(); ++rank) {
      SequenceRequest part = whole;
      part.adapters.clear();
      part.mixture.clear();
      for (const uint32_t member : parts[rank]) {
        part.adapters.push_back(whole.adapters[member]);
        part.mixture.push_back(whole.mixture[member]);
      }
      part.gang = plan;
      part.gang->rank = static_cast<uint32_t>(rank);
      if (rank > 0) part.initial_credit = kMaxCredit;
      MakeAdapters(&workers_[rank]->harness);
      ids.push_back(workers_[rank]->harness.Submit(std::move(part)));
    }
    return ids;
  }

  // Every worker's outputs are taken until its sequence has ended; a rank without one is given 0.
  void WaitAll(const std::vector<uint64_t>& ids) {
    std::vector<std::thread> threads;
    for (size_t rank = 0; rank < ids.size(); ++rank) {
      threads.emplace_back([this, rank, id = ids[rank]] { workers_[rank]->harness.WaitFinished(id); });
    }
    for (std::thread& thread : threads) thread.join();
  }

  // The same, with `what` done after a while.
  void WaitAllAnd(const std::vector<uint64_t>& ids, absl::Duration after, const std::function<void()>& what) {
    std::thread later([&] {
      std::this_thread::sleep_for(absl::ToChronoMilliseconds(after));
      what();
    });
    WaitAll(ids);
    later.join();
  }

  const Answer& AnswerOf(size_t rank, const std::vector<uint64_t>& ids) {
    return workers_[rank]->harness.answer(ids[rank]);
  }

  void ExpectNothingIsHeld() {
    for (const auto& worker : workers_) {
      const EngineStats& stats = worker->harness.engine().stats();
      worker->harness.PumpUntil([&] {
        return stats.kv_blocks_used == 0 && stats.running == 0 && stats.waiting == 0 &&
               worker->n_gangs() == 0;
      });
    }
  }

  TestMeeting meeting_;
  std::vector<std::unique_ptr<TestWorker>> workers_;
  int n_started_ = 0;
};

const std::vector<std::vector<std::vector<uint32_t>>> kDivisions = {
    {{0, 1}, {2}}, {{2}, {0, 1}}, {{1}, {0, 2}}, {{0}, {1}, {2}}, {{2}, {0}, {1}}};

TEST_F(GangTest, SaysBitForBitWhatOneWorkerWithAllMembersWould) {
  MakeWorkers(3);
  for (const bool greedy : {true, false}) {
    SequenceRequest whole = Whole(40, 24);
    whole.sampling.logprobs = 3;
    if (!greedy) {
      whole.sampling.temperature = 1.3f;
      whole.sampling.top_p = 0.95f;
      whole.sampling.repetition_penalty = 1.2f;
      whole.sampling.frequency_penalty = 0.3f;
      whole.sampling.logit_bias = {{17, 3.0f}};
    }
    const Answer alone = Alone(whole);
    ASSERT_EQ(alone.tokens.size(), 24u);
    for (const auto& parts : kDivisions) {
      const std::vector<uint64_t> ids = Start(whole, parts);
      WaitAll(ids);
      for (size_t rank = 0; rank < parts.size(); ++rank) {
        EXPECT_EQ(AnswerOf(rank, ids).tokens, alone.tokens);
        EXPECT_EQ(AnswerOf(rank, ids).finish, alone.finish) << AnswerOf(rank, ids).status;
      }
      const Answer& told = AnswerOf(0, ids);
      ASSERT_EQ(told.logprobs.size(), alone.logprobs.size());
      for (size_t i = 0; i < alone.logprobs.size(); ++i) {
        for (size_t j = 0; j < alone.logprobs[i].size(); ++j) {
          EXPECT_EQ(told.logprobs[i][j].token, alone.logprobs[i][j].token);
          EXPECT_EQ(told.logprobs[i][j].logprob, alone.logprobs[i][j].logprob);
        }
      }
    }
  }
  ExpectNothingIsHeld();
}

TEST_F(GangTest, GoesOnElsewhereWithTheSameText) {
  MakeWorkers(3);
  SequenceRequest whole = Whole(33, 20);
  whole.sampling.temperature = 1.0f;
  whole.sampling.presence_penalty = 0.5f;
  const std::vector<int32_t> text = Alone(whole).tokens;
  for (const size_t n : {size_t{1}, size_t{9}, size_t{19}}) {
    whole.resume_ids.assign(text.begin(), text.begin() + static_cast<ptrdiff_t>(n));
    const std::vector<uint64_t> ids = Start(whole, kDivisions[n % kDivisions.size()]);
    WaitAll(ids);
    EXPECT_EQ(AnswerOf(0, ids).tokens,
              std::vector<int32_t>(text.begin() + static_cast<ptrdiff_t>(n), text.end()));
  }
}

TEST_F(GangTest, OneEndOfTextEndsItEverywhere) {
  FakeModelOptions model;
  MakeWorkers(2, {}, model);
  SequenceRequest whole = Whole(30, 50);
  const std::vector<int32_t> text = Alone(whole, model).tokens;
  whole.sampling.stop_token_ids = {static_cast<uint32_t>(text[7])};
  const size_t expected = static_cast<size_t>(std::find(text.begin(), text.end(), text[7]) - text.begin());
  const std::vector<uint64_t> ids = Start(whole, {{0, 2}, {1}});
  WaitAll(ids);
  for (size_t rank = 0; rank < 2; ++rank) {
    EXPECT_EQ(AnswerOf(rank, ids).finish, FinishReason::kStop);
    EXPECT_EQ(AnswerOf(rank, ids).tokens.size(), expected);
  }
}

TEST_F(GangTest, WithFewTokensToldTheTextDependsOnThemAloneAndFewBytesGo) {
  MakeWorkers(3);
  SequenceRequest whole = Whole(40, 20);
  whole.sampling.temperature = 1.0f;
  std::vector<std::vector<int32_t>> texts;
  for (const auto& parts : kDivisions) {
    const std::vector<uint64_t> ids = Start(whole, parts, /*top_tokens=*/16);
    WaitAll(ids);
    texts.push_back(AnswerOf(0, ids).tokens);
    EXPECT_EQ(texts.back(), texts.front());
  }
  uint64_t n_few = 0, n_all = 0;
  for (const auto& worker : workers_) n_few += worker->traffic.bytes();
  for (const auto& parts : kDivisions) WaitAll(Start(whole, parts));
  for (const auto& worker : workers_) n_all += worker->traffic.bytes();
  n_all -= n_few;
  // 1,000 logits of 4 bytes, or 16 of 8 and one more.
  EXPECT_LT(n_few, n_all / 8);
  EXPECT_GE(n_all, 20u * 4'000u * kDivisions.size()) << "a member at least is elsewhere";
}

TEST_F(GangTest, MasksHoldWhatIsToldOrNot) {
  MakeWorkers(2);
  SequenceRequest whole = Whole(25, 12);
  whole.allowed_tokens.assign(32, 0);
  whole.allowed_tokens[4] = 0x00ff00ff;
  const std::vector<int32_t> text = Alone(whole).tokens;
  const std::vector<uint64_t> all = Start(whole, {{0, 1}, {2}});
  WaitAll(all);
  EXPECT_EQ(AnswerOf(0, all).tokens, text);
  const std::vector<uint64_t> few = Start(whole, {{0, 1}, {2}}, 2);
  WaitAll(few);
  ASSERT_EQ(AnswerOf(0, few).tokens.size(), 12u);
  for (const int32_t token : AnswerOf(0, few).tokens) {
    EXPECT_TRUE(MaskAllows(whole.allowed_tokens, static_cast<size_t>(token))) << token;
  }
}

// Beside others that take its blocks from it, on one worker or both.
TEST_F(GangTest, PreemptionChangesNoText) {
  FakeModelOptions model;
  model.n_kv_blocks = 12;
  MakeWorkers(2, {}, model);
  SequenceRequest whole = Whole(30, 60);
  whole.sampling.temperature = 1.0f;
  FakeModelOptions large;
  const std::vector<int32_t> text = Alone(whole, large).tokens;
  for (const size_t crowded : {size_t{0}, size_t{1}}) {
    EngineHarness& harness = workers_[crowded]->harness;
    harness.HoldSteps();  // until all are there: on a fast machine they would come and go one by one
    std::vector<uint64_t> ids = Start(whole, {{0, 1}, {2}});
    for (int i = 0; i < 3; ++i) {
      SequenceRequest other = TestRequest(TestPrompt(40, 50 + i), 40);
      other.priority = 10;
      harness.Submit(std::move(other));
    }
    harness.LetStepsGo();
    WaitAll(ids);
    EXPECT_EQ(AnswerOf(0, ids).tokens, text) << AnswerOf(0, ids).status;
    EXPECT_GT(harness.engine().stats().preemptions, 0u);
  }
}

TEST_F(GangTest, AMemberWhoseStepsTakeLongIsWaitedFor) {
  MakeWorkers(2);
  const SequenceRequest whole = Whole(20, 8);
  const std::vector<int32_t> text = Alone(whole).tokens;
  for (const size_t slow : {size_t{0}, size_t{1}}) {
    workers_[slow]->harness.HoldSteps();
    const std::vector<uint64_t> ids = Start(whole, {{0, 1}, {2}});
    WaitAllAnd(ids, absl::Milliseconds(1800), [&] {  // beyond a call's time-out, twice
      workers_[slow]->harness.LetStepsGo();
    });
    EXPECT_EQ(AnswerOf(0, ids).tokens, text) << AnswerOf(0, ids).status;
  }
}

TEST_F(GangTest, AReaderThatTakesNothingHoldsItWithoutEndingIt) {
  MakeWorkers(2);
  SequenceRequest whole = Whole(20, 12);
  const std::vector<int32_t> text = Alone(whole).tokens;
  whole.initial_credit = 3;
  const std::vector<uint64_t> ids = Start(whole, {{0, 1}, {2}});
  WaitAllAnd(ids, absl::Milliseconds(1800), [&] { workers_[0]->harness.engine().AddCredit(ids[0], 100); });
  EXPECT_EQ(AnswerOf(0, ids).tokens, text) << AnswerOf(0, ids).status;
}

TEST_F(GangTest, ALostFollowerIsNamedByTheLeader) {
  MakeWorkers(3);
  SequenceRequest whole = Whole(20, 3000);
  for (const size_t lost : {size_t{1}, size_t{2}}) {
    const std::vector<uint64_t> ids = Start(whole, {{0}, {1}, {2}});
    const MonotonicTime begin = MonotonicNow();
    WaitAllAnd(ids, absl::Milliseconds(100),
               [&] { workers_[lost]->harness.engine().EndAll(absl::UnavailableError("the worker goes")); });
    EXPECT_LT(MonotonicNow() - begin, absl::Seconds(15)) << "bounded, however slow the machine";
    EXPECT_EQ(AnswerOf(0, ids).status.code(), absl::StatusCode::kUnavailable);
    EXPECT_EQ(LostWorker(AnswerOf(0, ids).status), absl::StrCat("worker-", lost)) << AnswerOf(0, ids).status;
    EXPECT_EQ(AnswerOf(3 - lost, ids).status.code(), absl::StatusCode::kAborted);
    ExpectNothingIsHeld();
  }
}

TEST_F(GangTest, ALostLeaderEndsTheOthers) {
  MakeWorkers(3);
  const std::vector<uint64_t> ids = Start(Whole(20, 3000), {{0}, {1}, {2}});
  WaitAllAnd(ids, absl::Milliseconds(100),
             [&] { workers_[0]->harness.engine().EndAll(absl::UnavailableError("the worker goes")); });
  for (const size_t rank : {size_t{1}, size_t{2}}) {
    EXPECT_EQ(AnswerOf(rank, ids).status.code(), absl::StatusCode::kAborted) << AnswerOf(rank, ids).status;
  }
  ExpectNothingIsHeld();
}

TEST_F(GangTest, AMemberThatNeverComesIsNamed) {
  MakeWorkers(2);
  workers_[1]->deaf = true;
  const std::vector<uint64_t> ids = Start(Whole(20, 10), {{0, 1}, {2}});
  workers_[0]->harness.WaitFinished(ids[0]);
  EXPECT_EQ(AnswerOf(0, ids).status.code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(LostWorker(AnswerOf(0, ids).status), "worker-1");
  EXPECT_THAT(std::string(AnswerOf(0, ids).status.message()), HasSubstr("did not come within 2s"));
  workers_[1]->harness.engine().Cancel(ids[1]);
  ExpectNothingIsHeld();
}

TEST_F(GangTest, CancelledAnywhereNothingIsLeft) {
  MakeWorkers(3);
  for (int i = 0; i < 9; ++i) {
    const std::vector<uint64_t> ids = Start(Whole(20, 3000), {{0}, {1}, {2}});
    WaitAllAnd(ids, absl::Milliseconds(10 * i), [&] {
      for (size_t rank = 0; rank < 3; ++rank) workers_[rank]->harness.engine().Cancel(ids[rank]);
    });
    ExpectNothingIsHeld();
  }
}

TEST_F(GangTest, AMemberThatIsNotFiniteEndsItEverywhere) {
  class SpoiltModel final : public FakeModel {
   public:
    using FakeModel::FakeModel;

   private:
    void ChangeRow(const Batch&, int, std::span<float> row) override { row[5] = NAN; }
  };
  workers_.push_back(std::make_unique<TestWorker>(&meeting_, EngineOptions{}, FakeModelOptions{}));
  workers_.push_back(std::make_unique<TestWorker>(
      &meeting_, EngineOptions{}, FakeModelOptions{}, QuickOptions(),
      [](FakeModelOptions options) { return std::make_unique<SpoiltModel>(options); }));
  for (const uint32_t top_tokens : {0u, 4u}) {
    const std::vector<uint64_t> ids = Start(Whole(20, 10), {{0, 1}, {2}}, top_tokens);
    WaitAll(ids);
    for (size_t rank = 0; rank < 2; ++rank) {
      EXPECT_EQ(AnswerOf(rank, ids).finish, FinishReason::kError);
      EXPECT_THAT(std::string(AnswerOf(rank, ids).status.message()), HasSubstr("answer position 0"));
    }
  }
  ExpectNothingIsHeld();
}

// Two gangs over the same workers, each led by another: they wait for each other in no order at all.
TEST_F(GangTest, TwoHundredOverThreeWorkersEndAll) {
  EngineOptions engine;
  engine.max_seqs = 24;
  engine.max_waiting = 1000;
  for (int i = 0; i < 3; ++i) {
    GangOptions options;
    options.max_gangs = 256;
    workers_.push_back(std::make_unique<TestWorker>(&meeting_, engine, FakeModelOptions{}, options));
    MakeAdapters(&workers_.back()->harness);
  }
  std::vector<std::vector<int32_t>> texts;
  std::vector<std::array<uint64_t, 3>> started;
  for (int i = 0; i < 200; ++i) {
    SequenceRequest whole = Whole(10 + i % 7, 4 + static_cast<uint32_t>(i) % 5);
    // The workers take turns at leading: ranks are turned.
    GangPlan plan;
    plan.group = absl::StrCat("of many ", i);
    for (const MixtureMember& member : whole.mixture) plan.weights.push_back(member.weight);
    for (uint32_t rank = 0; rank < 3; ++rank) {
      plan.workers.push_back({absl::StrCat("worker-", (rank + static_cast<uint32_t>(i)) % 3), "", {rank}});
    }
    std::array<uint64_t, 3> ids{};
    for (uint32_t rank = 0; rank < 3; ++rank) {
      SequenceRequest part = whole;
      part.adapters = {whole.adapters[rank]};
      part.mixture = {whole.mixture[rank]};
      part.gang = plan;
      part.gang->rank = rank;
      const size_t worker = (rank + static_cast<size_t>(i)) % 3;
      ids[worker] = workers_[worker]->harness.Submit(std::move(part));
    }
    started.push_back(ids);
  }
  std::vector<std::thread> threads;
  for (size_t worker = 0; worker < 3; ++worker) {
    threads.emplace_back([&, worker] {
      for (const auto& ids : started) workers_[worker]->harness.WaitFinished(ids[worker]);
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (int i = 0; i < 200; ++i) {
    for (size_t worker = 0; worker < 3; ++worker) {
      const Answer& answer = workers_[worker]->harness.answer(started[static_cast<size_t>(i)][worker]);
      EXPECT_EQ(answer.finish, FinishReason::kLength) << answer.status;
      EXPECT_EQ(answer.tokens.size(), 4u + static_cast<size_t>(i) % 5);
    }
  }
  ExpectNothingIsHeld();
}

TEST_F(GangTest, WhatDoesNotFitTogetherIsRefusedByName) {
  MakeWorkers(1);
  EngineHarness& harness = workers_[0]->harness;
  MakeAdapters(&harness);
  const auto refused = [&](const std::function<void(SequenceRequest*)>& change, const std::string& words) {
    SequenceRequest part = Whole(20, 10);
    part.adapters.resize(2);
    part.mixture.resize(2);
    part.gang = GangPlan{.group = "g",
                         .rank = 0,
                         .workers = {{"w0", "", {0, 1}}, {"w1", "", {2}}},
                         .weights = {0.5f, 0.3125f, 0.1875f}};
    change(&part);
    const Status status = harness.TrySubmit(std::move(part));
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(status.message()), HasSubstr(words));
  };
  refused([](auto* r) { r->gang->rank = 2; }, "rank is 2; it has 2 workers");
  refused([](auto* r) { r->gang->workers.resize(1); }, "1 workers for 3 members");
  refused([](auto* r) { r->gang->weights[0] = 0.4f; }, "sum to 0.9");
  refused([](auto* r) { r->gang->weights[2] = NAN; }, "weight of the gang's mixture is nan");
  refused([](auto* r) { r->gang->workers[1].members = {1}; }, "which another has");
  refused([](auto* r) { r->gang->workers[1].members = {7}; }, "has member 7 of 3");
  refused([](auto* r) { r->gang->workers[1].members = {}; }, "have 2 of its 3 members");
  refused([](auto* r) { r->mixture.resize(1), r->adapters.resize(1); }, "the sequence brings 1");
  refused([](auto* r) { r->gang->top_tokens = 5000; }, "top_tokens is 5000");
  refused([](auto* r) { r->prompt_logprobs_from = 1; }, "scores no prompt");
}

}  // namespace
}  // namespace coterie
