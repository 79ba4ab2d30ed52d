// Mixtures with the real arithmetic, against float64.
#include <cmath>

#include "gtest/gtest.h"
#include "model/decoder/decoder.h"
#include "model/format/model_files.h"
#include "model/lora/lora_adapter.h"
#include "tests/source_root.h"
#include "tests/testing/backends.h"
#include "tests/worker/engine/engine_harness.h"

namespace coterie {
namespace {

constexpr int kMixedPrompt = 30;

class MixtureDecoderTest : public ::testing::TestWithParam<testing::Backend> {
 protected:
  void SetUp() override {
    if (testing::ShortOf(GetParam())) GTEST_SKIP() << "minutes of an emulated GPU";
    const std::filesystem::path data = testing::SourceRoot() / "tests" / "data";
    files_ = ModelFiles::Open(data / "tiny-llama-q.gguf").value();
    harness_ = std::make_unique<EngineHarness>(EngineOptions(), FakeModelOptions(), [&](FakeModelOptions) {
      DecoderOptions options;
      options.n_kv_blocks = 200;
      options.max_logit_rows = EngineOptions().max_logit_rows;
      options.n_seats = 2 * EngineOptions().max_seqs;
      auto decoder = Decoder::Create(*files_, testing::MakeDecoderOps(GetParam(), 1), options);
      EXPECT_TRUE(decoder.ok()) << decoder.status();
      return std::unique_ptr<LanguageModel>(std::move(decoder).value());
    });
    for (const char* name : {"llama-qv", "llama-all-linear", "llama-top-layers"}) {
      const std::filesystem::path folder = data / "tiny-adapters" / name;
      const auto adapter = LoraAdapter::Load(folder, files_->config());
      ASSERT_TRUE(adapter.ok()) << adapter.status();
      adapters_.push_back((*adapter)->digest());
      harness_->AddAdapter(adapters_.back(), folder);
    }
  }

  // log p of each token of `answer` behind the prompt, under one adapter (or none) alone.
  std::vector<double> LogprobsUnder(const SequenceRequest& request, std::vector<AdapterUse> adapters,
                                    const std::vector<int32_t>& answer) {
    SequenceRequest score = request;
    score.adapters = std::move(adapters);
    score.mixture.clear();
    score.prompt_ids.insert(score.prompt_ids.end(), answer.begin(), answer.end());
    score.prompt_logprobs_from = kMixedPrompt;
    score.score_only = true;
    const Answer& scored = harness_->Run(score);
    EXPECT_EQ(scored.finish, FinishReason::kStop) << scored.status;
    std::vector<double> logprobs;
    for (const auto& [position, tokens] : scored.prompt_logprobs) {
      logprobs.push_back(static_cast<double>(tokens[0].logprob));
    }
    EXPECT_EQ(logprobs.size(), answer.size());
    return logprobs;
  }

  // An emulated GPU takes a second for some ten rows.
  static uint32_t Tokens() { return testing::IsGpu(GetParam()) ? 12 : 40; }

  SequenceRequest Request(float temperature) const {
    SequenceRequest request = TestRequest(TestPrompt(kMixedPrompt, 2, files_->config().vocab_size), Tokens());
    request.sampling.ignore_eos = true;
    request.sampling.logprobs = 0;
    request.sampling.temperature = temperature;
    return request;
  }

  std::unique_ptr<ModelFiles> files_;
  std::unique_ptr<EngineHarness> harness_;
  std::vector<Digest> adapters_;
};

// Members under adapters of different ranks, layers and modules, and the base among them.
TEST_P(MixtureDecoderTest, EachTokenHasTheProbabilityOfTheWeightedSum) {
  for (const float temperature : {0.0f, 1.0f}) {
    SequenceRequest request = Request(temperature);
    for (const Digest& adapter : adapters_) request.adapters.push_back({adapter, 1.0f, ""});
    request.mixture = {{1, 0.5f}, {0, 0.125f}, {1, 0.25f}, {1, 0.125f}};
    const Answer answer = harness_->Run(request);
    ASSERT_EQ(answer.logprobs.size(), Tokens()) << answer.status;

    std::vector<double> p(Tokens());
    size_t adapter = 0;
    for (const MixtureMember& member : request.mixture) {
      std::vector<AdapterUse> uses;
      if (member.n_adapters > 0) uses.push_back(request.adapters[adapter++]);
      const std::vector<double> logprobs = LogprobsUnder(request, uses, answer.tokens);
      for (size_t i = 0; i < p.size(); ++i)
        p[i] += static_cast<double>(member.weight) * std::exp(logprobs[i]);
    }
    for (size_t i = 0; i < p.size(); ++i) {
      EXPECT_NEAR(static_cast<double>(answer.logprobs[i][0].logprob), std::log(p[i]), 1e-5) << "token " << i;
    }
  }
}

TEST_P(MixtureDecoderTest, OneMemberEqualsItsAdapterBitForBit) {
  for (const float temperature : {0.0f, 1.0f}) {
    SequenceRequest request = Request(temperature);
    request.adapters = {{adapters_[1], 1.0f, ""}};
    const Answer plain = harness_->Run(request);
    request.mixture = {{1, 1.0f}};
    const Answer& mixture = harness_->Run(request);
    EXPECT_EQ(mixture.tokens, plain.tokens);
    ASSERT_EQ(mixture.logprobs.size(), plain.logprobs.size());
    for (size_t i = 0; i < plain.logprobs.size(); ++i) {
      EXPECT_EQ(mixture.logprobs[i][0].logprob, plain.logprobs[i][0].logprob) << "token " << i;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Modes, MixtureDecoderTest, ::testing::ValuesIn(testing::AllBackends()),
                         [](const auto& backend) { return testing::NameOf(backend.param); });

}  // namespace
}  // namespace coterie
