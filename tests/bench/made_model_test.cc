#include "tests/bench/made_model.h"

#include <gtest/gtest.h>

#include <cmath>

#include "kernels/create.h"
#include "model/decoder/decoder.h"
#include "model/format/dequantize.h"
#include "tests/model/decoder/sequences.h"

namespace coterie::bench {
namespace {

ModelConfig Tiny() {
  ModelConfig config = *ShapeNamed("tiny");
  config.n_layers = 2;
  return config;
}

double Deviation(const std::vector<float>& values) {
  double sum = 0, squares = 0;
  for (const float v : values) {
    sum += v;
    squares += static_cast<double>(v) * v;
  }
  const auto n = static_cast<double>(values.size());
  return std::sqrt(squares / n - sum / n * sum / n);
}

class MadeModelTest : public ::testing::TestWithParam<DType> {};

TEST_P(MadeModelTest, WeightsHaveTheDeviationThatKeepsProductsInRange) {
  const auto made = MadeModel::Make(Tiny(), GetParam());
  ASSERT_TRUE(made.ok()) << made.status();
  const auto files = (*made)->Files(2);
  ASSERT_TRUE(files.ok()) << files.status();
  for (const WeightRole role : {WeightRole::kQ, WeightRole::kDown, WeightRole::kTokenEmbedding}) {
    const TensorView& tensor = (*files)->Get(role).tensor;
    const std::vector<float> values = DequantizeTensor(tensor);
    const double want = 1 / std::sqrt(static_cast<double>(tensor.shape[1]));
    EXPECT_NEAR(Deviation(values) / want, 1, 0.1)
        << WeightRoleName(role) << " as " << DTypeName(tensor.dtype);
  }
}

TEST_P(MadeModelTest, LogitsAreFiniteAndDiffer) {
  const auto made = MadeModel::Make(Tiny(), GetParam());
  ASSERT_TRUE(made.ok()) << made.status();
  const auto files = (*made)->Files(2);
  ASSERT_TRUE(files.ok()) << files.status();
  auto backend = CreateCpuDecoderOps({.mode = NumericsMode::kExact, .n_threads = 1});
  ASSERT_TRUE(backend.ok()) << backend.status();
  DecoderOptions options;
  options.n_kv_blocks = 2;
  const auto decoder = Decoder::Create(**files, *std::move(backend), options);
  ASSERT_TRUE(decoder.ok()) << decoder.status();
  testing::TestSequence sequence;
  for (int i = 0; i < 20; ++i) sequence.tokens.push_back(i * 37);
  sequence.UseBlocks(0, 20);
  Batch batch;
  batch.Clear();
  AddToBatch(&sequence, 20, testing::LogitRows::kLast, &batch);
  const auto logits = testing::RunForLogits(decoder->get(), &batch);
  ASSERT_TRUE(logits.ok()) << logits.status();
  const double deviation = Deviation({logits->begin(), logits->end()});
  EXPECT_GT(deviation, 0.3);
  EXPECT_LT(deviation, 3);
}

INSTANTIATE_TEST_SUITE_P(Types, MadeModelTest,
                         ::testing::Values(DType::kF32, DType::kF16, DType::kBF16, DType::kQ8_0, DType::kQ4_0,
                                           DType::kQ4_1, DType::kQ5_0, DType::kQ5_1, DType::kQ4_K,
                                           DType::kQ5_K, DType::kQ6_K, DType::kQ3_K, DType::kIQ4_NL),
                         [](const auto& info) { return std::string(DTypeName(info.param)); });

TEST(MadeModel, FewerLayersAreTheFirstOnes) {
  const auto made = MadeModel::Make(Tiny(), DType::kBF16);
  ASSERT_TRUE(made.ok()) << made.status();
  std::vector<std::vector<float>> downs;
  for (const int layers : {2, 1}) {
    const auto files = (*made)->Files(layers);
    ASSERT_TRUE(files.ok()) << files.status();
    EXPECT_EQ((*files)->config().n_layers, layers);
    downs.push_back(DequantizeTensor((*files)->Get(WeightRole::kDown).tensor));
    if (layers == 2) {
      EXPECT_NE(downs[0], DequantizeTensor((*files)->Get(WeightRole::kDown, 1).tensor));
    }
  }
  EXPECT_EQ(downs[0], downs[1]);
}

TEST(MadeModel, EverySeedGivesItsOwnBase) {
  const auto digest = [](uint64_t seed) {
    auto made = MadeModel::Make(Tiny(), DType::kQ4_0, seed);
    return (*(*made)->Files(2))->ComputeDigest();
  };
  EXPECT_EQ(digest(1), digest(1));
  EXPECT_FALSE(digest(1) == digest(2));
}

TEST(MadeModel, SaysWhichRowsAreNoWholeNumberOfBlocks) {
  const auto made = MadeModel::Make(*ShapeNamed("135m"), DType::kQ4_K);
  ASSERT_FALSE(made.ok());
  EXPECT_NE(made.status().message().find("576"), std::string::npos) << made.status();
}

}  // namespace
}  // namespace coterie::bench
