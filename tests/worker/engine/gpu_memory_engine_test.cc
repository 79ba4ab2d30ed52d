// An engine on a GPU whose memory runs out while it serves: a request ends with the reason, or is answered as
// ever, and the next ones are.
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "model/decoder/decoder.h"
#include "model/format/model_files.h"
#include "model/lora/lora_adapter.h"
#include "tests/source_root.h"
#include "tests/testing/backends.h"
#include "tests/worker/engine/engine_harness.h"
#ifdef COTERIE_EMULATED_GPU
#include "common/adapter_failure.h"
#include "tests/gpu/emulation/control.h"

namespace coterie {
namespace {

using ::testing::AnyOf;
using ::testing::HasSubstr;

class GpuMemoryEngineTest : public ::testing::Test {
 protected:
  static std::filesystem::path DataOf(const std::string& name) {
    return testing::SourceRoot() / "tests" / "data" / name;
  }
  void SetUp() override {
    files_ = ModelFiles::Open(DataOf("tiny-llama")).value();
    for (const char* name : {"llama-qv", "llama-all-linear", "llama-top-layers"}) {
      const std::filesystem::path folder = DataOf("tiny-adapters") / name;
      adapters_.emplace_back(LoraAdapter::Load(folder, files_->config()).value()->digest(), folder);
    }
    golden_ = AnswersOf(Start().get());
    for (const Answer& answer : golden_) ASSERT_EQ(answer.finish, FinishReason::kLength) << answer.status;
  }
  void TearDown() override { emulation::ForgetFailures(); }

  std::unique_ptr<EngineHarness> Start() {
    EngineOptions engine;
    engine.max_seqs = 4;
    engine.max_batch_tokens = 32;
    engine.adapters.n_slots = 2;
    auto harness = std::make_unique<EngineHarness>(engine, FakeModelOptions(), [&](FakeModelOptions) {
      DecoderOptions options;
      options.n_kv_blocks = 32;
      options.max_batch_tokens = engine.max_batch_tokens;
      options.max_seqs = engine.max_seqs;
      options.n_seats = 2 * engine.max_seqs;
      options.n_adapter_slots = engine.adapters.n_slots;
      options.max_adapters_per_seq = 2;
      return std::unique_ptr<LanguageModel>(
          Decoder::Create(*files_, testing::MakeDecoderOps(testing::Backend::kGpu), options).value());
    });
    for (const auto& [digest, folder] : adapters_) harness->AddAdapter(digest, folder);
    return harness;
  }

  // Of requests side by side: the base's, one for each adapter, one for two of them together.
  std::vector<Answer> AnswersOf(EngineHarness* harness) {
    std::vector<uint64_t> ids;
    for (size_t i = 0; i < 5; ++i) {
      SequenceRequest request = TestRequest(
          TestPrompt(5 + static_cast<int>(i), static_cast<int>(i), files_->config().vocab_size), 6);
      request.sampling.ignore_eos = true;
      if (i > 0) request.adapters = {{adapters_[(i - 1) % 3].first, 1.0f, ""}};
      if (i == 4) request.adapters.push_back({adapters_[2].first, 0.5f, ""});
      ids.push_back(harness->Submit(std::move(request)));
    }
    std::vector<Answer> answers;
    for (const uint64_t id : ids) {
      harness->WaitFinished(id);
      answers.push_back(harness->answer(id));
    }
    return answers;
  }

  void ExpectGolden(EngineHarness* harness) {
    const std::vector<Answer> answers = AnswersOf(harness);
    for (size_t i = 0; i < answers.size(); ++i) {
      EXPECT_EQ(answers[i].finish, FinishReason::kLength) << i << ": " << answers[i].status;
      EXPECT_EQ(answers[i].tokens, golden_[i].tokens) << i;
    }
    EXPECT_TRUE(harness->engine().device_status().ok());
  }

  std::unique_ptr<ModelFiles> files_;
  std::vector<std::pair<Digest, std::filesystem::path>> adapters_;
  std::vector<Answer> golden_;
};

TEST_F(GpuMemoryEngineTest, ARequestWhoseAdapterFindsNoMemoryEndsAndTheNextOneIsServed) {
  int n = 0;
  {
    const auto harness = Start();
    const uint64_t before = emulation::CountsNow().allocations;
    ExpectGolden(harness.get());
    n = static_cast<int>(emulation::CountsNow().allocations - before);
  }
  ASSERT_GT(n, 10);
  int n_errors = 0;
  for (int i = 0; i < n; ++i) {
    for (const int times : {1, emulation::kForEver}) {
      const auto harness = Start();
      emulation::FailAllocationAfter(i, times);
      const std::vector<Answer> answers = AnswersOf(harness.get());
      emulation::ForgetFailures();
      for (size_t a = 0; a < answers.size(); ++a) {
        const Answer& answer = answers[a];
        if (answer.status.ok()) {
          EXPECT_EQ(answer.tokens, golden_[a].tokens) << "allocation " << i << ", request " << a;
          continue;
        }
        ++n_errors;
        EXPECT_GT(a, 0u) << "it has no adapter: " << answer.status;
        EXPECT_TRUE(absl::IsResourceExhausted(answer.status)) << answer.status;
        EXPECT_TRUE(FailedAdapter(answer.status).has_value()) << "another worker may be asked";
        EXPECT_THAT(std::string(answer.status.message()),
                    AnyOf(HasSubstr("of device memory for an adapter"),
                          HasSubstr("of pinned host memory for an adapter")));
      }
      ExpectGolden(harness.get());
      if (HasFailure()) return;
    }
  }
  EXPECT_GT(n_errors, 5);
}

}  // namespace
}  // namespace coterie
#endif  // COTERIE_EMULATED_GPU
