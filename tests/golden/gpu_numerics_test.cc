// How far the numbers of a GPU lie from those of the CPU's exact mode on the real base, for every way to hold
// its weights. docs/numerics.md has what this prints.
#include <algorithm>
#include <cmath>
#include <iostream>

#include "common/file.h"
#include "gtest/gtest.h"
#include "kernels/formats/half.h"
#include "model/decoder/decoder.h"
#include "model/format/dequantize.h"
#include "tests/golden/golden_arrays.h"
#include "tests/model/decoder/sequences.h"
#include "tests/model/format/gguf_llama.h"
#include "tests/real_models.h"
#include "tests/source_root.h"
#include "tests/testing/backends.h"

namespace coterie {
namespace {

using Weights = CudaBackendOptions::Weights;

constexpr int kTextTokens = 48, kTexts = 4;
constexpr uint32_t kGgufBf16 = 30;

// The base with its matrices rounded to bfloat16: the bytes of a GGUF file.
std::string RoundedBase(const std::filesystem::path& path) {
  const auto file = GgufFile::Open(path);
  const auto model = ModelFiles::Open(path);
  EXPECT_TRUE(file.ok() && model.ok());
  testing::GgufWriter writer;
  testing::AddLlamaConfig((*model)->config(), (*model)->config().n_layers, &writer);
  for (const TensorView& tensor : file->tensors()) {
    const std::vector<float> values = DequantizeTensor(tensor);
    if (tensor.shape.size() == 1) {
      writer.AddF32Tensor(tensor.name, tensor.shape, values);
      continue;
    }
    std::string rounded(values.size() * sizeof(uint16_t), '\0');
    for (size_t i = 0; i < values.size(); ++i) {
      const uint16_t bits = FloatToBf16(values[i]);
      std::memcpy(rounded.data() + i * sizeof bits, &bits, sizeof bits);
    }
    writer.AddTensor(tensor.name, kGgufBf16, tensor.shape, rounded);
  }
  return writer.Bytes();
}

struct Case {
  const char* name;
  bool rounded;     // the base rounded to bfloat16, else its Q4_1 file
  Weights weights;  // of the GPU
  // Against the exact mode with the weights as the file has them.
  double most_kl;         // mean of the positions, nats
  double least_agreeing;  // share of positions with the same likeliest token
};
void PrintTo(const Case& c, std::ostream* out) { *out << c.name; }

class GpuNumericsTest : public ::testing::TestWithParam<Case> {
 protected:
  void SetUp() override {
    if (!testing::HasGpu()) GTEST_SKIP() << "no GPU, and none emulated in this build";
    if (!std::filesystem::exists(testing::RealBase())) {
      GTEST_SKIP() << testing::RealBase() << " is not there; set COTERIE_MODELS to the folder that holds it";
    }
  }

  static std::unique_ptr<Decoder> MakeDecoder(const ModelFiles& files, std::unique_ptr<DecoderOps> ops) {
    DecoderOptions options;
    options.n_kv_blocks = KvBlocksFor(kTextTokens);
    options.max_batch_tokens = options.max_logit_rows = kTextTokens;
    auto decoder = Decoder::Create(files, std::move(ops), options);
    EXPECT_TRUE(decoder.ok()) << decoder.status();
    return *std::move(decoder);
  }

  // Logits of every position [kTextTokens, vocab], valid until the next call for this decoder.
  static std::span<const float> Run(Decoder* decoder, const std::vector<int32_t>& ids) {
    testing::TestSequence sequence;
    sequence.tokens = ids;
    sequence.UseBlocks(0, kTextTokens);
    Batch batch;
    batch.Clear();
    AddToBatch(&sequence, kTextTokens, testing::LogitRows::kAll, &batch);
    const auto logits = testing::RunForLogits(decoder, &batch);
    EXPECT_TRUE(logits.ok()) << logits.status();
    return logits.ok() ? *logits : std::span<const float>();
  }
};

double LogSum(std::span<const float> row) {
  const double best = *std::max_element(row.begin(), row.end());
  double sum = 0;
  for (const float logit : row) sum += std::exp(logit - best);
  return best + std::log(sum);
}
ptrdiff_t Likeliest(std::span<const float> row) {
  return std::max_element(row.begin(), row.end()) - row.begin();
}

TEST_P(GpuNumericsTest, StaysNearTheExactMode) {
  const std::string rounded = GetParam().rounded ? RoundedBase(testing::RealBase()) : "";
  StatusOr<std::unique_ptr<ModelFiles>> files = ModelFiles::Open(testing::RealBase());
  if (GetParam().rounded) {
    auto parsed = GgufFile::Parse(testing::AsBytes(rounded), "the base in bfloat16");
    ASSERT_TRUE(parsed.ok()) << parsed.status();
    files = ModelFiles::FromGguf(*std::move(parsed));
  }
  ASSERT_TRUE(files.ok()) << files.status();
  CudaBackendOptions gpu;
  gpu.weights = GetParam().weights;
  auto ops = CreateCudaDecoderOps(gpu);
  ASSERT_TRUE(ops.ok()) << ops.status();
  const auto exact = MakeDecoder(**files, testing::MakeDecoderOps(testing::Backend::kExact));
  const auto device = MakeDecoder(**files, *std::move(ops));

  auto arrays = testing::ReadGoldenArrays(testing::SourceRoot() / "tests/golden/base_logits.bin");
  ASSERT_TRUE(arrays.ok()) << arrays.status();
  const auto vocab = static_cast<size_t>(exact->info().vocab_size);
  double kl = 0, worst_kl = 0;
  int n_texts = 0, n_positions = 0, n_agreeing = 0;
  for (const auto& [key, array] : *arrays) {
    if (!key.ends_with(".ids") || n_texts == kTexts) continue;
    const std::vector<uint16_t> all = array.As<uint16_t>();
    if (all.size() < kTextTokens) continue;
    const std::vector<int32_t> ids(all.begin(), all.begin() + kTextTokens);
    const std::span<const float> want = Run(exact.get(), ids), got = Run(device.get(), ids);
    ASSERT_EQ(want.size(), kTextTokens * vocab);
    ASSERT_EQ(got.size(), want.size());
    for (size_t p = 0; p < kTextTokens; ++p) {
      const auto w = want.subspan(p * vocab, vocab), g = got.subspan(p * vocab, vocab);
      const double w_sum = LogSum(w), g_sum = LogSum(g);
      double of_position = 0;
      for (size_t i = 0; i < vocab; ++i)
        of_position += std::exp(w[i] - w_sum) * (w[i] - w_sum - g[i] + g_sum);
      kl += of_position;
      worst_kl = std::max(worst_kl, of_position);
      n_agreeing += Likeliest(w) == Likeliest(g) ? 1 : 0;
      ++n_positions;
    }
    ++n_texts;
  }
  ASSERT_EQ(n_texts, kTexts);
  std::cout << GetParam().name << ": " << n_positions << " positions, mean KL " << kl / n_positions
            << ", worst " << worst_kl << ", same likeliest token at " << n_agreeing << "\n";
  EXPECT_LE(kl / n_positions, GetParam().most_kl);
  EXPECT_GE(n_agreeing, GetParam().least_agreeing * n_positions);
}

INSTANTIATE_TEST_SUITE_P(Formats, GpuNumericsTest,
                         ::testing::Values(Case{"Bf16", true, Weights::kAsStored, 3e-4, 0.99},
                                           Case{"Q4_1", false, Weights::kAsStored, 3e-4, 0.99},
                                           Case{"Q8_0AtLoad", true, Weights::kQ8_0, 4e-3, 0.96},
                                           Case{"Fp8AtLoad", true, Weights::kFp8, 8e-2, 0.9}),
                         [](const auto& info) { return info.param.name; });

}  // namespace
}  // namespace coterie
