// Tokens are the same whether the model computes whole rows of logits or keeps the few largest of each.
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/create.h"
#include "model/decoder/decoder.h"
#include "model/format/model_files.h"
#include "tests/source_root.h"
#include "tests/testing/backends.h"
#include "tests/worker/engine/engine_harness.h"
#include "tests/worker/engine/forwarding_model.h"

namespace coterie {
namespace {

using ::testing::SizeIs;

// The decoder, asked for the rows themselves, so that it cannot do with the largest logits of each.
class WholeRowsModel : public ForwardingModel {
 public:
  using ForwardingModel::ForwardingModel;
  StatusOr<StepTicket> Launch(const Batch& batch) override {
    Batch whole = batch;
    for (RowSampling& row : whole.sampling) row.keep_logits = true;
    return ForwardingModel::Launch(whole);
  }
};

constexpr uint32_t kAnswerTokens = 16;
constexpr int kKinds = 8;

// Greedy, top-k, top-k with top-p, with min-p; then those that need the whole distribution.
std::vector<SequenceRequest> Requests(int vocab_size) {
  std::vector<SequenceRequest> requests;
  for (int i = 0; i < 2 * kKinds; ++i) {
    SequenceRequest request = TestRequest(TestPrompt(5 + 7 * i, i, vocab_size), kAnswerTokens);
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

class TopLogitsOfADecoder : public ::testing::TestWithParam<testing::Backend> {
 protected:
  std::vector<Answer> Answers(bool whole_rows, bool together) {
    static const ModelFiles* const files =
        ModelFiles::Open(testing::SourceRoot() / "tests" / "data" / "tiny-llama-q.gguf").value().release();
    const EngineOptions engine;
    EngineHarness harness(
        engine, FakeModelOptions(), [&](FakeModelOptions) -> std::unique_ptr<LanguageModel> {
          DecoderOptions options;
          options.n_kv_blocks = 400;
          options.max_batch_tokens = engine.max_batch_tokens;
          options.max_seqs = engine.max_seqs;
          options.n_seats = 2 * engine.max_seqs;  // a late model has two steps in flight
          options.max_logit_rows = engine.max_logit_rows;
          auto decoder =
              Decoder::Create(*files, testing::MakeDecoderOps(GetParam(), /*n_threads=*/2), options);
          EXPECT_TRUE(decoder.ok()) << decoder.status();
          if (!whole_rows) return std::move(decoder).value();
          return std::make_unique<WholeRowsModel>(std::move(decoder).value());
        });
    std::vector<uint64_t> ids;
    for (SequenceRequest& request : Requests(files->config().vocab_size)) {
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
  if (testing::ShortOf(GetParam())) GTEST_SKIP() << "minutes of an emulated GPU";
  const std::vector<Answer> expected = Answers(/*whole_rows=*/true, /*together=*/false);
  for (bool together : {false, true}) {
    const std::vector<Answer> answers = Answers(/*whole_rows=*/false, together);
    for (size_t i = 0; i < answers.size(); ++i) {
      ASSERT_THAT(expected[i].tokens, SizeIs(kAnswerTokens));
      EXPECT_EQ(answers[i].tokens, expected[i].tokens) << "request " << i << ", together " << together;
      EXPECT_EQ(answers[i].logprobs.size(), expected[i].logprobs.size());
      EXPECT_EQ(answers[i].prompt_logprobs.size(), expected[i].prompt_logprobs.size());
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Modes, TopLogitsOfADecoder, ::testing::ValuesIn(testing::AllBackends()),
                         [](const auto& backend) { return testing::NameOf(backend.param); });

}  // namespace
}  // namespace coterie
