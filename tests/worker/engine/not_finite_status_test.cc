// Logits that are no numbers end their own sequence with the expert's name, and nothing else.
#include "worker/engine/not_finite_status.h"

#include <cmath>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/worker/engine/engine_harness.h"

namespace coterie {
namespace {

using ::testing::HasSubstr;

// A fake model whose rows are spoilt wherever an adapter takes part that is loaded as `bad` was.
class SpoiltModel : public FakeModel {
 public:
  SpoiltModel(FakeModelOptions options, float value) : FakeModel(options), value_(value) {}
  StatusOr<std::unique_ptr<LoadedAdapter>> LoadAdapter(const std::filesystem::path& folder) override {
    ASSIGN_OR_RETURN(auto loaded, FakeModel::LoadAdapter(folder));
    if (loaded->digest == Sha256("bad")) bad_ = loaded->packed.get();
    return loaded;
  }

 private:
  void ChangeRow(const Batch& batch, int seq, std::span<float> logits) override {
    for (int use = batch.adapter_offsets[seq]; use < batch.adapter_offsets[seq + 1]; ++use) {
      if (AdapterIn(batch.adapter_slots[use]) == bad_) logits[17] = value_;
    }
  }

  const float value_;
  std::atomic<const PackedAdapter*> bad_{nullptr};
};

class NotFiniteTest : public ::testing::TestWithParam<float> {
 protected:
  EngineHarness harness_{
      {}, {}, [](FakeModelOptions o) { return std::make_unique<SpoiltModel>(o, GetParam()); }};
  const Digest bad_ = harness_.MakeAdapter("bad");
  SequenceRequest Bad(uint32_t max_tokens = 5) {
    SequenceRequest request = TestRequest(TestPrompt(40, 1), max_tokens);
    request.adapters = {{bad_, 1.5f, "diverged"}};
    return request;
  }
  void ExpectNamed(const Answer& answer, const std::string& place) {
    EXPECT_EQ(answer.finish, FinishReason::kError);
    EXPECT_EQ(answer.status.code(), absl::StatusCode::kFailedPrecondition);
    for (const std::string& part :
         {place, std::string("\"diverged\""), bad_.Short(), std::string("weight 1.5")}) {
      EXPECT_THAT(std::string(answer.status.message()), HasSubstr(part));
    }
  }
};

TEST_P(NotFiniteTest, AnAnswerEndsWithTheExpertsNameAndNoToken) {
  for (int how = 0; how < 4; ++how) {
    SequenceRequest request = Bad();
    if (how == 1) request.sampling.temperature = 0.9f;
    if (how == 2) request.sampling.logprobs = 3;
    if (how == 3) request.sampling.repetition_penalty = 1.3f;
    const Answer& answer = harness_.Run(std::move(request));
    EXPECT_TRUE(answer.tokens.empty()) << how;
    ExpectNamed(answer, "answer position 0");
  }
  EXPECT_EQ(harness_.engine().stats().not_finite, 4u);
}

TEST_P(NotFiniteTest, AScoreEndsWithTheExpertsNameAndNoLogprob) {
  for (const bool score_only : {true, false}) {
    SequenceRequest request = Bad();
    request.prompt_logprobs_from = 5;
    request.score_only = score_only;
    const Answer& answer = harness_.Run(std::move(request));
    EXPECT_TRUE(answer.prompt_logprobs.empty());
    EXPECT_TRUE(answer.tokens.empty());
    ExpectNamed(answer, "prompt position 5");
  }
}

TEST_P(NotFiniteTest, OtherSequencesOfTheSameStepsAreUntouched) {
  const Digest good = harness_.MakeAdapter("good");
  const auto ask = [&](int i) {
    SequenceRequest request = TestRequest(TestPrompt(30, i), 20);
    if (i % 2 == 0) request.adapters = {{good, 1.0f, "good"}};
    if (i % 3 == 0) request.prompt_logprobs_from = 3;
    return request;
  };
  std::vector<std::vector<int32_t>> alone;
  for (int i = 0; i < 6; ++i) alone.push_back(harness_.Run(ask(i)).tokens);
  std::vector<uint64_t> ids, bad;
  for (int i = 0; i < 6; ++i) {
    SequenceRequest request = Bad();
    if (i % 2 == 0) request.prompt_logprobs_from = 2;
    bad.push_back(harness_.Submit(std::move(request)));
    ids.push_back(harness_.Submit(ask(i)));
  }
  for (size_t i = 0; i < 6; ++i) {
    harness_.WaitFinished(ids[i]);
    harness_.WaitFinished(bad[i]);
    EXPECT_EQ(harness_.answer(ids[i]).tokens, alone[i]);
    EXPECT_EQ(harness_.answer(bad[i]).finish, FinishReason::kError);
  }
}

INSTANTIATE_TEST_SUITE_P(Values, NotFiniteTest, ::testing::Values(NAN, INFINITY, -INFINITY));

TEST(NotFiniteBaseTest, TheBaseAloneIsBlamedAsItself) {
  SequenceRequest request;
  EXPECT_EQ(NotFiniteStatus(request, "answer position 3").code(), absl::StatusCode::kInternal);
}

}  // namespace
}  // namespace coterie
