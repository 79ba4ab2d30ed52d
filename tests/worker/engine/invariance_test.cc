// The same text alone, in a batch, under any chunking, with a prefix hit, after preemption and after a
// resume.
#include <algorithm>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/worker/engine/engine_harness.h"

namespace coterie {
namespace {

struct Workload {
  std::vector<SequenceRequest> requests;
  std::vector<std::vector<int32_t>> alone;  // each one's answer on a fresh engine
};

// Sixteen different sequences: greedy and sampled, base rows, one adapter, two weighted or gated ones,
// mixtures of two, penalties.
Workload MakeWorkload() {
  Workload workload;
  const Digest a = Sha256("a"), b = Sha256("b");
  for (int i = 0; i < 16; ++i) {
    SequenceRequest request = TestRequest(TestPrompt(5 + 13 * i, i), 20 + i);
    if (i % 2 == 1) request.sampling.temperature = 0.9f;
    if (i % 4 == 3) request.sampling.top_p = 0.8f;
    if (i % 5 == 2) request.sampling.repetition_penalty = 1.3f;
    if (i % 3 == 1) request.adapters = {{a, 1.0f, "a"}};
    if (i % 3 == 2) request.adapters = {{b, 0.25f, "b"}, {a, 0.75f, "a"}};
    if (i == 4 || i == 7) {
      request.adapters = {{a, 1.0f, "a"}, {b, 1.0f, "b"}};
      request.mixture = {{1, 0.59375f}, {1, 0.40625f}};
    }
    if (i == 5) {  // the base and a blend
      request.adapters = {{b, 0.5f, "b"}, {a, 0.5f, "a"}};
      request.mixture = {{0, 0.5f}, {2, 0.5f}};
    }
    request.sampling.seed = 1000 + i;
    if (i >= 8 && i % 2 == 0) {  // the same adapters under different gates, and seeds
      request.adapters = {{a, 1.0f, "a"}, {b, 1.0f, "b"}};
      request.gate = i == 8    ? Gate{GateKind::kGateless, 2}
                     : i == 10 ? Gate{GateKind::kArrow, 1}
                               : Gate{GateKind::kNoisy, 1 + i % 4 / 2, *request.sampling.seed};
    }
    workload.requests.push_back(request);
  }
  for (const SequenceRequest& request : workload.requests) {
    EngineHarness harness;
    harness.MakeAdapter("a");
    harness.MakeAdapter("b");
    const Answer& answer = harness.Run(request);
    EXPECT_EQ(answer.finish, FinishReason::kLength) << answer.status;
    EXPECT_EQ(answer.tokens.size(), request.sampling.max_tokens);
    workload.alone.push_back(answer.tokens);
  }
  return workload;
}

const Workload& TheWorkload() {
  static const Workload* const workload = new Workload(MakeWorkload());
  return *workload;
}

void ExpectSameTexts(EngineOptions options, FakeModelOptions model, int rounds = 1,
                     uint64_t* preemptions = nullptr) {
  EngineHarness harness(options, model);
  harness.MakeAdapter("a");
  harness.MakeAdapter("b");
  for (int round = 0; round < rounds; ++round) {
    std::vector<uint64_t> ids;
    harness.HoldSteps();  // all run side by side
    for (const SequenceRequest& request : TheWorkload().requests) ids.push_back(harness.Submit(request));
    harness.LetStepsGo();
    for (size_t i = 0; i < ids.size(); ++i) {
      harness.WaitFinished(ids[i]);
      EXPECT_EQ(harness.answer(ids[i]).tokens, TheWorkload().alone[i])
          << "sequence " << i << ", round " << round;
      if (round > 0 && preemptions == nullptr && TheWorkload().requests[i].prompt_ids.size() > 16) {
        EXPECT_GT(harness.answer(ids[i]).cached_prompt_tokens, 0u) << "sequence " << i;
      }
    }
  }
  if (preemptions != nullptr) *preemptions = harness.engine().stats().preemptions;
}

TEST(InvarianceTest, TextsInTheWorkloadDiffer) {
  std::vector<std::vector<int32_t>> texts = TheWorkload().alone;
  std::sort(texts.begin(), texts.end());
  EXPECT_EQ(std::unique(texts.begin(), texts.end()), texts.end());
}

TEST(InvarianceTest, InABatchEverySequenceSaysWhatItSaysAlone) { ExpectSameTexts({}, {}); }

TEST(InvarianceTest, UnderAnyChunkingOfThePrompts) {
  for (int chunk : {3, 7, 16, 17, 64, 1000}) {
    EngineOptions options;
    options.max_seqs = 2;
    options.max_batch_tokens = chunk;
    ExpectSameTexts(options, {});
  }
}

TEST(InvarianceTest, WithPrefixesAlreadyInTheCache) { ExpectSameTexts({}, {}, /*rounds=*/2); }

TEST(InvarianceTest, WhenSequencesArePreemptedAndRecomputed) {
  FakeModelOptions model;
  model.n_kv_blocks = 20;  // the longest needs 16: the others are put back again and again
  uint64_t preemptions = 0;
  ExpectSameTexts({}, model, /*rounds=*/2, &preemptions);
  EXPECT_GT(preemptions, 0u);
}

TEST(InvarianceTest, WithOneSlotForTwoAdaptersThatTakeTurns) {
  EngineOptions options;
  options.adapters.n_slots = 2;
  options.adapters.max_bytes = (1 << 20) + 1;  // one packed adapter at a time, and a bit
  FakeModelOptions model;
  model.adapter_bytes = 1 << 19;
  ExpectSameTexts(options, model);
}

TEST(InvarianceTest, TakenUpOnAnotherWorkerAtAnyPosition) {
  for (size_t i = 0; i < TheWorkload().requests.size(); i += 3) {
    const std::vector<int32_t>& whole = TheWorkload().alone[i];
    for (size_t cut : {size_t{1}, size_t{7}, whole.size() - 1}) {
      EngineHarness harness;
      harness.MakeAdapter("a");
      harness.MakeAdapter("b");
      SequenceRequest request = TheWorkload().requests[i];
      request.resume_ids.assign(whole.begin(), whole.begin() + cut);
      const Answer& answer = harness.Run(request);
      EXPECT_EQ(answer.tokens, std::vector<int32_t>(whole.begin() + cut, whole.end()))
          << i << " from " << cut;
    }
  }
}

TEST(InvarianceTest, AnAnswerAlreadyAsLongAsAskedForEndsAtOnce) {
  EngineHarness harness;
  SequenceRequest request = TestRequest(TestPrompt(5, 1), 3);
  request.resume_ids = {1, 2, 3};
  const Answer& answer = harness.Run(request);
  EXPECT_EQ(answer.finish, FinishReason::kLength);
  EXPECT_TRUE(answer.tokens.empty());
}

TEST(InvarianceTest, OtherAdaptersWeightsAndSaltsShareNoPrefix) {
  EngineHarness harness;
  SequenceRequest base = TestRequest(TestPrompt(64, 1), 4);
  SequenceRequest adapted = base, weighted = base, salted = base;
  adapted.adapters = {{harness.MakeAdapter("a"), 1.0f, "a"}};
  weighted.adapters = {{harness.MakeAdapter("a"), 0.5f, "a"}};
  salted.cache_salt = "tenant";
  std::vector<std::vector<int32_t>> texts;
  for (const SequenceRequest& request : {base, adapted, weighted, salted}) {
    const Answer& answer = harness.Run(request);
    EXPECT_EQ(answer.cached_prompt_tokens, 0u);
    texts.push_back(answer.tokens);
  }
  EXPECT_NE(texts[0], texts[1]);
  EXPECT_NE(texts[1], texts[2]);
  EXPECT_EQ(texts[0], texts[3]);
  EXPECT_EQ(harness.Run(base).cached_prompt_tokens, 48u);  // at most prompt - 1 tokens, in whole blocks
  EXPECT_EQ(harness.Run(salted).cached_prompt_tokens, 48u);
}

TEST(InvarianceTest, AnAnswerIsAPrefixForTheNextTurn) {
  EngineHarness harness;
  SequenceRequest first = TestRequest(TestPrompt(40, 1), 60);
  const std::vector<int32_t> answer = harness.Run(first).tokens;
  SequenceRequest second = TestRequest(first.prompt_ids, 5);
  second.prompt_ids.insert(second.prompt_ids.end(), answer.begin(), answer.end());
  second.prompt_ids.push_back(3);
  EXPECT_EQ(harness.Run(second).cached_prompt_tokens, 96u);  // 99 tokens were computed: the last has no KV
}

}  // namespace
}  // namespace coterie
