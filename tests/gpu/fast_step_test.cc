// Steps of a whole decoder whose products of many rows are cuBLASLt's.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "control.h"
#include "model/decoder/decoder.h"
#include "tests/model/decoder/sequences.h"
#include "tests/source_root.h"
#include "tests/testing/backends.h"

namespace coterie::cuda {
namespace {

using ::testing::HasSubstr;

class FastStepTest : public ::testing::Test {
 protected:
  static constexpr int kPrompt = 40;

  void SetUp() override {
    auto files = ModelFiles::Open(testing::SourceRoot() / "tests/data/tiny-llama-q.gguf");
    ASSERT_TRUE(files.ok()) << files.status();
    DecoderOptions options;
    options.n_kv_blocks = 8;
    options.max_batch_tokens = 64;
    auto decoder = Decoder::Create(**files, testing::MakeDecoderOps(testing::Backend::kGpuFast), options);
    ASSERT_TRUE(decoder.ok()) << decoder.status();
    decoder_ = *std::move(decoder);
    for (int i = 0; i < kPrompt; ++i) sequence_.tokens.push_back(i + 5);
    sequence_.UseBlocks(0, kPrompt + 4);
  }
  void TearDown() override { emulation::ForgetFailures(); }

  // The next tokens of the sequence, the last of them sampled.
  Status Step(int n_tokens) {
    Batch batch;
    batch.Clear();
    AddToBatch(&sequence_, n_tokens, testing::LogitRows::kLast, &batch);
    batch.sampling.assign(batch.logit_rows.size(), {});
    ASSIGN_OR_RETURN(const StepTicket ticket, decoder_->Launch(batch));
    return decoder_->Collect(ticket).status();
  }

  std::unique_ptr<Decoder> decoder_;
  testing::TestSequence sequence_;
};

TEST_F(FastStepTest, APromptIsComputedByTheLibraryAndDecodeIsNot) {
  const auto loaded = emulation::CountsNow();
  ASSERT_TRUE(Step(kPrompt).ok());
  const auto prefilled = emulation::CountsNow();
  EXPECT_GE(prefilled.library_products - loaded.library_products,
            4u * static_cast<uint64_t>(decoder_->config().n_layers - 1))
      << "of the last layer only the last row goes on";
  sequence_.tokens.push_back(7);
  ASSERT_TRUE(Step(1).ok());
  EXPECT_EQ(emulation::CountsNow().library_products, prefilled.library_products);
  EXPECT_EQ(prefilled.library_searches, loaded.library_searches) << "all were made when weights were loaded";
  EXPECT_EQ(emulation::CountsNow().live_allocations, loaded.live_allocations) << "a step allocates nothing";
}

// Whatever the library did not compute must not be taken for an answer.
TEST_F(FastStepTest, AProductThatFailsEndsTheStepAsALostDeviceDoes) {
  emulation::FailProductAfter(3);
  const Status status = Step(kPrompt);
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(ToStd(status.message()), HasSubstr("cuBLASLt: a product of 40 x "));
}

}  // namespace
}  // namespace coterie::cuda
