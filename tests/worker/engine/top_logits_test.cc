// Tokens are the same whether the model hands over whole rows of logits or the few largest of each.
#include <algorithm>
#include <atomic>
#include <cmath>
#include <random>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "model/decoder/decoder.h"
#include "model/format/model_files.h"
#include "tests/worker/engine/engine_harness.h"

namespace coterie {
namespace {

using ::testing::SizeIs;

std::vector<TopLogit> Largest(std::span<const float> logits, int k) {
  std::vector<TopLogit> all;
  for (size_t i = 0; i < logits.size(); ++i) all.push_back({logits[i], static_cast<int32_t>(i)});
  std::sort(all.begin(), all.end(), Before);
  all.resize(static_cast<size_t>(k));
  return all;
}

TEST(TopLogitsTest, TheSamplerDrawsTheSameTokenFromThem) {
  constexpr int kVocab = 500;
  std::mt19937 random(static_cast<uint32_t>(::testing::UnitTest::GetInstance()->random_seed()));
  std::normal_distribution<float> normal;
  Sampler sampler(kVocab);
  for (int i = 0; i < 3000; ++i) {
    std::vector<float> logits(kVocab);
    for (float& logit : logits) {
      logit = normal(random);
      if (i % 3 == 1) logit = std::round(logit * 4) / 4;  // many are equal
      if (i % 3 == 2) logit *= 1e-6f;                     // many are equally far from the largest one
    }
    if (i % 3 == 2) logits[random() % kVocab] = 3.0f;
    SamplingParams params;
    params.temperature = i % 5 == 0 ? 0.0f : static_cast<float>(random() % 30 + 1) / 10;
    params.top_k = random() % kMaxTopLogits + 1;
    if (i % 2 == 0) params.top_p = static_cast<float>(random() % 100 + 1) / 100;
    if (i % 7 == 0) params.min_p = static_cast<float>(random() % 100) / 100;
    const int k = Sampler::TopNeeded(params, kVocab, kMaxTopLogits);
    ASSERT_EQ(k, params.greedy() ? 1 : static_cast<int>(params.top_k));
    ASSERT_EQ(sampler.SampleTop(params, 9, static_cast<uint64_t>(i), Largest(logits, k)),
              sampler.Sample(params, 9, static_cast<uint64_t>(i), logits, {}, {}))
        << "draw " << i;
  }
}

TEST(TopLogitsTest, WhatIsNotFiniteIsReportedNotSampled) {
  Sampler sampler(10);
  for (float value : {NAN, INFINITY, -INFINITY}) {
    EXPECT_EQ(sampler.SampleTop({}, 1, 2, std::vector<TopLogit>{{value, -1}}), -1);
  }
}

TEST(TopLogitsTest, AreNotEnoughWhereAnythingNeedsTheWholeDistribution) {
  const auto needed = [](const std::function<void(SamplingParams&)>& change, int vocab_size = 100) {
    SamplingParams params;
    change(params);
    return Sampler::TopNeeded(params, vocab_size, kMaxTopLogits);
  };
  EXPECT_EQ(needed([](auto&) {}), 1);
  EXPECT_EQ(needed([](auto& p) { p.top_k = 40; }), 1);  // greedy all the same
  EXPECT_EQ(needed([](auto& p) { p.temperature = 1; }), 0);
  EXPECT_EQ(needed([](auto& p) { p.temperature = 1, p.top_k = 64; }), 64);
  EXPECT_EQ(needed([](auto& p) { p.temperature = 1, p.top_k = 65; }), 0);
  EXPECT_EQ(needed([](auto& p) { p.temperature = 1, p.top_k = 64; }, 64), 0);
  EXPECT_EQ(needed([](auto& p) { p.logprobs = 0; }), 0);
  EXPECT_EQ(needed([](auto& p) { p.logit_bias = {{1, 2.0f}}; }), 0);
  EXPECT_EQ(needed([](auto& p) { p.repetition_penalty = 1.1f; }), 0);
  EXPECT_EQ(needed([](auto& p) { p.presence_penalty = 0.1f; }), 0);
  EXPECT_EQ(needed([](auto& p) { p.frequency_penalty = 0.1f; }), 0);
  SamplingParams params;
  EXPECT_EQ(Sampler::TopNeeded(params, 100, 0), 0);  // a model without them
}

struct RowCounts {
  std::atomic<uint64_t> whole{0};
  std::atomic<uint64_t> top{0};
  std::atomic<uint64_t> steps_of_both{0};
};

// The decoder, showing that it can give the largest logits or keeping it to itself.
class CountingModel : public LanguageModel {
 public:
  CountingModel(std::unique_ptr<LanguageModel> model, bool gives_top, RowCounts* counts)
      : model_(std::move(model)), info_(model_->info()), counts_(counts) {
    if (!gives_top) info_.max_top_logits = 0;
  }
  const LanguageModelInfo& info() const override { return info_; }
  StatusOr<std::unique_ptr<LoadedAdapter>> LoadAdapter(const std::filesystem::path& folder) override {
    return model_->LoadAdapter(folder);
  }
  Status Forward(const Batch& batch, std::span<const float>* logits) override {
    counts_->whole += batch.logit_rows.size();
    return model_->Forward(batch, logits);
  }
  Status ForwardTop(const Batch& batch, StepLogits* logits) override {
    const auto n_whole = std::count(batch.logit_top_k.begin(), batch.logit_top_k.end(), 0);
    counts_->whole += static_cast<uint64_t>(n_whole);
    counts_->top += batch.logit_rows.size() - static_cast<uint64_t>(n_whole);
    if (n_whole > 0) ++counts_->steps_of_both;
    return model_->ForwardTop(batch, logits);
  }

 private:
  const std::unique_ptr<LanguageModel> model_;
  LanguageModelInfo info_;
  RowCounts* const counts_;
};

constexpr uint32_t kAnswerTokens = 16;
constexpr int kKinds = 8;

// Greedy, top-k, top-k with top-p, with min-p; then those that need the whole distribution.
std::vector<GenerateRequest> Requests(int vocab_size) {
  std::vector<GenerateRequest> requests;
  for (int i = 0; i < 2 * kKinds; ++i) {
    GenerateRequest request = TestRequest(TestPrompt(5 + 7 * i, i, vocab_size), kAnswerTokens);
    SamplingParams& params = request.sampling;
    params.ignore_eos = true;
    params.seed = 70 + i;
    const int kind = i % kKinds;
    if (kind > 0) params.temperature = 1.5f;
    if (kind == 1 || kind == 2 || kind == 3 || kind == 6) params.top_k = i < kKinds ? 8 : 64;
    if (kind == 2) params.top_p = 0.8f;
    if (kind == 3) params.min_p = 0.1f;
    if (kind == 4) params.top_p = 0.9f;
    if (kind == 5) params.repetition_penalty = 1.3f;
    if (kind == 6) params.logprobs = 3;
    if (kind == 7) params.logit_bias = {{5, 2.0f}}, params.temperature = 0.0f;
    if (kind == 0 && i >= kKinds) request.prompt_logprobs_from = 40;
    requests.push_back(std::move(request));
  }
  return requests;
}

class TopLogitsOfADecoder : public ::testing::TestWithParam<NumericsMode> {
 protected:
  std::vector<Answer> Answers(bool gives_top, bool together, RowCounts* counts) {
    static const ModelFiles* const files =
        ModelFiles::Open(std::filesystem::path(COTERIE_SOURCE_DIR) / "tests" / "data" / "tiny-llama-q.gguf")
            .value()
            .release();
    const EngineOptions engine;
    EngineHarness harness(engine, FakeModelOptions(), [&](FakeModelOptions) {
      DecoderOptions options;
      options.n_kv_blocks = 400;
      options.max_batch_tokens = engine.max_batch_tokens;
      options.max_seqs = engine.max_seqs;
      options.max_logit_rows = engine.max_logit_rows;
      auto decoder =
          Decoder::Create(*files, CreateCpuBackend({.mode = GetParam(), .n_threads = 2}).value(), options);
      EXPECT_TRUE(decoder.ok()) << decoder.status();
      return std::make_unique<CountingModel>(std::move(decoder).value(), gives_top, counts);
    });
    std::vector<uint64_t> ids;
    for (GenerateRequest& request : Requests(files->config().vocab_size)) {
      ids.push_back(harness.Submit(std::move(request)));
      if (!together) harness.WaitFinished(ids.back());
    }
    std::vector<Answer> answers;
    for (uint64_t id : ids) {
      harness.WaitFinished(id);
      answers.push_back(harness.answer(id));
    }
    return answers;
  }
};

TEST_P(TopLogitsOfADecoder, GiveTheTokensThatWholeRowsGive) {
  RowCounts none, some;
  const std::vector<Answer> expected = Answers(/*gives_top=*/false, /*together=*/false, &none);
  EXPECT_EQ(none.top, 0u);
  for (bool together : {false, true}) {
    const std::vector<Answer> answers = Answers(/*gives_top=*/true, together, &some);
    for (size_t i = 0; i < answers.size(); ++i) {
      ASSERT_THAT(expected[i].tokens, SizeIs(kAnswerTokens));
      EXPECT_EQ(answers[i].tokens, expected[i].tokens) << "request " << i << ", together " << together;
      EXPECT_EQ(answers[i].logprobs.size(), expected[i].logprobs.size());
      EXPECT_EQ(answers[i].prompt_logprobs.size(), expected[i].prompt_logprobs.size());
    }
  }
  // Half of the kinds, twice each, in both runs.
  EXPECT_EQ(some.top, 2u * 2 * (kKinds / 2) * kAnswerTokens);
  EXPECT_EQ(some.whole + some.top, 2 * none.whole);
  EXPECT_GT(some.steps_of_both, 0u);
}

INSTANTIATE_TEST_SUITE_P(Modes, TopLogitsOfADecoder,
                         ::testing::Values(NumericsMode::kExact, NumericsMode::kFast), [](const auto& mode) {
                           return mode.param == NumericsMode::kExact ? "Exact" : "Fast";
                         });

}  // namespace
}  // namespace coterie
