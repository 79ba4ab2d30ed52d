// An adapter whose weights are finite, but under which the real arithmetic leaves float32's range: no answer
// and no score of it, in either mode and whatever it does to the others of its steps.
#include <bit>

#include "common/file.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/create.h"
#include "model/decoder/decoder.h"
#include "model/format/model_files.h"
#include "model/lora/lora_adapter.h"
#include "tests/model/format/safetensors_writer.h"
#include "tests/model/format/temp_folder.h"
#include "tests/source_root.h"
#include "tests/testing/backends.h"
#include "tests/worker/engine/engine_harness.h"

namespace coterie {
namespace {

using ::testing::HasSubstr;

std::filesystem::path TinyFile(const std::string& name) {
  return testing::SourceRoot() / "tests" / "data" / name;
}

// Rank 2 on gate and up of one layer, so large that gate times up is beyond what the next norm can square.
// Each by itself is within what publishing allows.
void WriteDiverged(const testing::TempFolder& folder, const ModelConfig& base, int layer) {
  testing::SafetensorsWriter writer;
  for (const char* module : {"gate_proj", "up_proj"}) {
    const std::string name = absl::StrCat("base_model.model.model.layers.", layer, ".mlp.", module);
    std::vector<float> a(static_cast<size_t>(2 * base.hidden_size));
    for (size_t i = 0; i < a.size(); ++i) a[i] = i % 3 == 0 ? -2e4f : 3e4f;
    writer.AddF32(name + ".lora_A.weight", {2, base.hidden_size}, a);
    std::vector<float> b(static_cast<size_t>(2 * base.ffn_size));
    for (size_t i = 0; i < b.size(); ++i) b[i] = i / 2 % 2 == 0 ? 1e5f : -1e5f;  // some gates are open
    writer.AddF32(name + ".lora_B.weight", {base.ffn_size, 2}, b);
  }
  folder.Write("adapter_model.safetensors", writer.Bytes());
  folder.Write(
      "adapter_config.json",
      absl::StrCat("{\"peft_type\": \"LORA\", \"task_type\": \"CAUSAL_LM\", \"r\": 2, \"lora_alpha\": 2, "
                   "\"target_modules\": [\"gate_proj\", \"up_proj\"], \"layers_to_transform\": [",
                   layer, "]}"));
}

struct Case {
  const char* model;
  testing::Backend backend;
  int layer;
};

class NotFiniteDecoderTest : public ::testing::TestWithParam<Case> {
 protected:
  void SetUp() override {
    files_ = std::move(ModelFiles::Open(TinyFile(GetParam().model))).value();
    WriteDiverged(folder_, files_->config(), GetParam().layer);
    auto adapter = LoraAdapter::Load(folder_.path(), files_->config());
    ASSERT_TRUE(adapter.ok()) << adapter.status();
    bad_ = (*adapter)->digest();
    auto good = LoraAdapter::Load(TinyFile("tiny-adapters/llama-qv"), files_->config());
    ASSERT_TRUE(good.ok()) << good.status();
    good_ = (*good)->digest();
    EngineOptions engine;
    engine.max_seqs = 8;
    harness_ = std::make_unique<EngineHarness>(engine, FakeModelOptions(), [&](FakeModelOptions) {
      DecoderOptions options;
      options.n_kv_blocks = 200;
      options.max_batch_tokens = engine.max_batch_tokens;
      options.max_seqs = engine.max_seqs;
      options.n_seats = 2 * engine.max_seqs;  // a late model has two steps in flight
      options.max_logit_rows = engine.max_logit_rows;
      auto decoder =
          Decoder::Create(*files_, testing::MakeDecoderOps(GetParam().backend, /*n_threads=*/2), options);
      EXPECT_TRUE(decoder.ok()) << decoder.status();
      return std::unique_ptr<LanguageModel>(std::move(decoder).value());
    });
    harness_->AddAdapter(bad_, folder_.path());
    harness_->AddAdapter(good_, TinyFile("tiny-adapters/llama-qv"));
  }
  SequenceRequest Ask(int n_prompt, int seed) {
    SequenceRequest request = TestRequest(TestPrompt(n_prompt, seed, files_->config().vocab_size), 12);
    request.sampling.ignore_eos = true;
    return request;
  }
  SequenceRequest Bad(int n_prompt = 40) {
    SequenceRequest request = Ask(n_prompt, 1);
    request.adapters = {{bad_, 1.0f, "diverged"}};
    return request;
  }
  void ExpectNamed(const Answer& answer) {
    EXPECT_TRUE(answer.tokens.empty());
    EXPECT_TRUE(answer.prompt_logprobs.empty());
    EXPECT_EQ(answer.finish, FinishReason::kError);
    EXPECT_EQ(answer.status.code(), absl::StatusCode::kFailedPrecondition) << answer.status;
    EXPECT_THAT(std::string(answer.status.message()), HasSubstr("\"diverged\" (adapter "));
  }

  testing::TempFolder folder_;
  std::unique_ptr<ModelFiles> files_;
  Digest bad_, good_;
  std::unique_ptr<EngineHarness> harness_;
};

TEST_P(NotFiniteDecoderTest, NeitherAnswersNorScoresLeaveItAndHitsOfItsPrefixSayTheSame) {
  for (int round = 0; round < 2; ++round) {  // the second finds the prompt's blocks in the cache
    ExpectNamed(harness_->Run(Bad()));
    SequenceRequest sampled = Bad();
    sampled.sampling.temperature = 0.8f;
    sampled.sampling.top_k = round == 0 ? 40 : 0;
    ExpectNamed(harness_->Run(std::move(sampled)));
    SequenceRequest scored = Bad(41);
    scored.prompt_logprobs_from = 1;
    scored.score_only = true;
    scored.sampling.logprobs = 2;
    ExpectNamed(harness_->Run(std::move(scored)));
  }
  // Beside another adapter, and with a weight that makes it worse or better.
  SequenceRequest blended = Bad();
  blended.adapters.push_back({good_, 0.5f, "good"});
  ExpectNamed(harness_->Run(std::move(blended)));
  SequenceRequest softly = Bad();
  softly.adapters[0].weight = 1e-12f;
  EXPECT_EQ(harness_->Run(std::move(softly)).finish, FinishReason::kLength) << "these are numbers again";
}

TEST_P(NotFiniteDecoderTest, TheOthersOfItsStepsKeepTheirBits) {
  const auto ask = [&](int i) {
    SequenceRequest request = Ask(20 + 7 * i, i);
    request.sampling.logprobs = 1;
    if (i % 2 == 0) request.adapters = {{good_, 1.0f, "good"}};
    return request;
  };
  const auto bits = [](const Answer& answer) {
    std::vector<uint32_t> all;
    for (const auto& scored : answer.logprobs) {
      for (const TokenLogprob& token : scored) all.push_back(std::bit_cast<uint32_t>(token.logprob));
    }
    return all;
  };
  std::vector<std::vector<uint32_t>> alone;
  for (int i = 0; i < 4; ++i) alone.push_back(bits(harness_->Run(ask(i))));
  std::vector<uint64_t> bad, ids;
  for (int i = 0; i < 4; ++i) {
    bad.push_back(harness_->Submit(Bad(30 + i)));
    ids.push_back(harness_->Submit(ask(i)));
  }
  for (size_t i = 0; i < 4; ++i) {
    harness_->WaitFinished(ids[i]);
    harness_->WaitFinished(bad[i]);
    ExpectNamed(harness_->answer(bad[i]));
    EXPECT_EQ(harness_->answer(ids[i]).finish, FinishReason::kLength) << harness_->answer(ids[i]).status;
    EXPECT_EQ(harness_->answer(ids[i]).tokens.size(), 12u);
    // Bits of a GPU with fast prefill depend on the batch; that they are numbers doesn't.
    if (GetParam().backend == testing::Backend::kGpuFast) continue;
    EXPECT_EQ(bits(harness_->answer(ids[i])), alone[i]) << i;
  }
}

INSTANTIATE_TEST_SUITE_P(Modes, NotFiniteDecoderTest,
                         ::testing::ValuesIn(testing::OnThisMachine(std::vector<Case>{
                             {"tiny-llama-q.gguf", testing::Backend::kFast, 0},
                             {"tiny-llama-q.gguf", testing::Backend::kFast, 2},
                             {"tiny-llama-q.gguf", testing::Backend::kExact, 1},
                             {"tiny-llama-q.gguf", testing::Backend::kGpu, 1},
                             {"tiny-llama-q.gguf", testing::Backend::kGpuFast, 1},
                             {"tiny-llama", testing::Backend::kFast, 0},
                             {"tiny-llama", testing::Backend::kExact, 2},
                             {"tiny-llama", testing::Backend::kGpu, 0}})),
                         [](const auto& info) {
                           return absl::StrCat(info.param.model[10] == '-' ? "Quantised" : "Floats",
                                               testing::NameOf(info.param.backend), "Layer",
                                               info.param.layer);
                         });

}  // namespace
}  // namespace coterie
