// Property 1 with the real arithmetic: every logit that the sampler saw, as its log-probability shows it, is
// bit-identical alone, among fifteen others with other adapters and base rows, under any chunking, with a
// prefix hit, after preemption and after a resume.
#include <bit>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/create.h"
#include "model/decoder/decoder.h"
#include "model/format/model_files.h"
#include "model/lora/lora_adapter.h"
#include "tests/source_root.h"
#include "tests/testing/backends.h"
#include "tests/worker/engine/engine_harness.h"

namespace coterie {
namespace {

using testing::Backend;

constexpr int kMaxTokens = 24;

std::filesystem::path Data(const std::string& name) {
  return testing::SourceRoot() / "tests" / "data" / name;
}

const ModelFiles& Files() {
  static const ModelFiles* const files = ModelFiles::Open(Data("tiny-llama-q.gguf")).value().release();
  return *files;
}

struct Setting {
  Backend backend = Backend::kExact;
  int n_threads = 1;
  int n_kv_blocks = 400;
  EngineOptions engine;
};

struct TinyAdapter {
  Digest digest;
  std::filesystem::path folder;
};

const std::vector<TinyAdapter>& Adapters() {
  static const auto* const adapters = [] {
    auto* made = new std::vector<TinyAdapter>;
    for (const char* name : {"llama-qv", "llama-all-linear", "llama-top-layers"}) {
      const std::filesystem::path folder = Data("tiny-adapters") / name;
      auto adapter = LoraAdapter::Load(folder, Files().config());
      EXPECT_TRUE(adapter.ok()) << adapter.status();
      made->push_back({(*adapter)->digest(), folder});
    }
    return made;
  }();
  return *adapters;
}

std::unique_ptr<EngineHarness> MakeHarness(const Setting& setting) {
  auto harness = std::make_unique<EngineHarness>(setting.engine, FakeModelOptions(), [&](FakeModelOptions) {
    DecoderOptions options;
    options.n_kv_blocks = setting.n_kv_blocks;
    options.max_batch_tokens = setting.engine.max_batch_tokens;
    options.max_seqs = setting.engine.max_seqs;
    options.n_seats = 2 * setting.engine.max_seqs;  // a late model has two steps in flight
    options.max_logit_rows = setting.engine.max_logit_rows;
    auto decoder =
        Decoder::Create(Files(), testing::MakeDecoderOps(setting.backend, setting.n_threads), options);
    EXPECT_TRUE(decoder.ok()) << decoder.status();
    return std::unique_ptr<LanguageModel>(std::move(decoder).value());
  });
  for (const TinyAdapter& adapter : Adapters()) harness->AddAdapter(adapter.digest, adapter.folder);
  return harness;
}

std::vector<SequenceRequest> Requests(bool has_all_gates) {
  std::vector<SequenceRequest> requests;
  for (int i = 0; i < 16; ++i) {
    SequenceRequest request = TestRequest(TestPrompt(3 + 9 * i, i, Files().config().vocab_size), kMaxTokens);
    request.sampling.ignore_eos = true;
    request.sampling.logprobs = 2;
    request.sampling.seed = 50 + i;
    if (i % 2) request.sampling.temperature = 1.0f;
    if (i % 4 > 0) request.adapters = {{Adapters()[i % 4 - 1].digest, 1.0f, ""}};
    if (i % 8 == 5) request.adapters.push_back({Adapters()[2].digest, 0.5f, ""});
    if (i == 5) request.mixture = {{1, 0.625f}, {1, 0.375f}};
    if (i == 6) {
      request.adapters = {{Adapters()[1].digest, 1.0f, ""}};
      request.mixture = {{0, 0.25f}, {1, 0.75f}};
    }
    if (i > 8 && i % 3 == 0 && (i == 12 || has_all_gates)) {  // gated: arrow, gateless and noisy
      request.adapters.clear();
      for (const TinyAdapter& adapter : Adapters()) request.adapters.push_back({adapter.digest, 1.0f, ""});
      request.mixture.clear();
      request.gate = i == 9    ? Gate{GateKind::kArrow, 2}
                     : i == 12 ? Gate{GateKind::kGateless, 3}
                               : Gate{GateKind::kNoisy, 2, *request.sampling.seed};
    }
    requests.push_back(request);
  }
  return requests;
}

// Tokens with the bits of every reported log-probability.
std::vector<std::pair<int32_t, uint32_t>> Bits(const Answer& answer) {
  std::vector<std::pair<int32_t, uint32_t>> bits;
  for (const auto& scored : answer.logprobs) {
    for (const TokenLogprob& token : scored)
      bits.emplace_back(token.token, std::bit_cast<uint32_t>(token.logprob));
  }
  return bits;
}

class DecoderInvarianceTest : public ::testing::TestWithParam<Backend> {
 protected:
  void SetUp() override {
    if (testing::ShortOf(GetParam())) GTEST_SKIP() << "minutes of an emulated GPU";
    Setting alone;
    alone.backend = GetParam();
    for (const SequenceRequest& request : Requests(!testing::IsGpu(GetParam()))) {
      auto harness = MakeHarness(alone);
      const Answer& answer = harness->Run(request);
      ASSERT_EQ(answer.finish, FinishReason::kLength) << answer.status;
      ASSERT_EQ(answer.tokens.size(), static_cast<size_t>(kMaxTokens));
      tokens_.push_back(answer.tokens);
      bits_.push_back(Bits(answer));
    }
  }

  void ExpectSame(Setting setting, int rounds = 1) {
    setting.backend = GetParam();
    auto harness = MakeHarness(setting);
    for (int round = 0; round < rounds; ++round) {
      std::vector<uint64_t> ids;
      harness->HoldSteps();  // all run side by side
      for (const SequenceRequest& request : Requests(!testing::IsGpu(GetParam())))
        ids.push_back(harness->Submit(request));
      harness->LetStepsGo();
      for (size_t i = 0; i < ids.size(); ++i) {
        harness->WaitFinished(ids[i]);
        EXPECT_EQ(Bits(harness->answer(ids[i])), bits_[i]) << "sequence " << i << ", round " << round;
      }
    }
    preemptions_ = harness->engine().stats().preemptions;
    hits_ = harness->engine().stats().prefix_hit_tokens;
  }

  std::vector<std::vector<int32_t>> tokens_;
  std::vector<std::vector<std::pair<int32_t, uint32_t>>> bits_;
  uint64_t preemptions_ = 0;
  uint64_t hits_ = 0;
};

TEST_P(DecoderInvarianceTest, AmongFifteenOthersAndWithPrefixHits) {
  Setting setting;
  ExpectSame(setting, /*rounds=*/2);
  EXPECT_GT(hits_, 0u);
}

TEST_P(DecoderInvarianceTest, UnderAnyChunkingAndThreadCount) {
  for (int chunk : {5, 16, 33, 100}) {
    if (GetParam() == Backend::kGpu && chunk != 33) continue;  // model_test cuts prompts more finely
    Setting setting;
    setting.engine.max_seqs = 4;
    setting.engine.max_batch_tokens = chunk;
    setting.n_threads = chunk == 100 ? 2 : 1;  // threads on a busy machine wait for each other
    ExpectSame(setting);
  }
}

TEST_P(DecoderInvarianceTest, WhenPreemptedAndRecomputed) {
  // Whether some outgrow the cache together depends on which of them a step happened to begin with.
  for (int round = 0; round < 5 && preemptions_ == 0; ++round) {
    Setting setting;
    setting.n_kv_blocks = 12;
    ExpectSame(setting);
  }
  EXPECT_GT(preemptions_, 0u);
}

TEST_P(DecoderInvarianceTest, TakenUpElsewhere) {
  const std::vector<SequenceRequest> requests = Requests(!testing::IsGpu(GetParam()));
  for (size_t i = 0; i < requests.size(); ++i) {
    if (i % 5 != 0 && requests[i].gate.kind == GateKind::kNone) continue;
    Setting setting;
    setting.backend = GetParam();
    auto harness = MakeHarness(setting);
    SequenceRequest request = requests[i];
    request.resume_ids.assign(tokens_[i].begin(), tokens_[i].begin() + 9);
    const Answer& answer = harness->Run(request);
    const size_t per_token = bits_[i].size() / kMaxTokens;
    EXPECT_EQ(Bits(answer),
              std::vector(bits_[i].begin() + static_cast<ptrdiff_t>(9 * per_token), bits_[i].end()));
  }
}

INSTANTIATE_TEST_SUITE_P(Modes, DecoderInvarianceTest, ::testing::ValuesIn(testing::AllBackends()),
                         [](const auto& backend) { return testing::NameOf(backend.param); });

}  // namespace
}  // namespace coterie
