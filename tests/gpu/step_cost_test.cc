// What a step of decode moves and launches on shapes that people serve, counted on an emulated GPU and held
// against the least that it can be on paper (tests/bench/step_cost.h). One layer is computed, with the head
// of a small vocabulary; docs/gpu.md has the table that this prints, for whole models.
#include "tests/bench/step_cost.h"

#include <gtest/gtest.h>

#include <cstdio>

#include "control.h"
#include "kernels/create.h"
#include "model/decoder/decoder.h"
#include "tests/bench/made_model.h"
#include "tests/bench/random_adapter.h"
#include "tests/testing/backends.h"

namespace coterie::bench {
namespace {

constexpr int kContext = 256;
constexpr int kVocab = 2048;
constexpr double kH200BytesPerSecond = 4.8e12;  // by its datasheet

struct Counted {
  double kernels = 0, bytes = 0;
};

struct Load {
  int batch = 1, n_adapters = 0;
};

struct Case {
  const char* shape;
  DType dtype;
  std::vector<Load> loads;
  CudaBackendOptions::Weights weights = CudaBackendOptions::Weights::kAsStored;
};

std::string NameOf(const Case& c) {
  const bool fp8 = c.weights == CudaBackendOptions::Weights::kFp8;
  return absl::StrCat(c.shape, fp8 ? "FP8" : ToAbsl(DTypeName(c.dtype)));
}

class StepCostTest : public ::testing::TestWithParam<Case> {
 protected:
  void SetUp() override {
    settings_ = emulation::TheSettings();
    // One block to a product: operands that several blocks share come from the second cache, and count once.
    emulation::TheSettings().n_processors = 1;
    config_ = *ShapeNamed(GetParam().shape);
    config_.vocab_size = kVocab;
  }
  void TearDown() override { emulation::TheSettings() = settings_; }

  std::unique_ptr<Decoder> MakeDecoder(int n_layers, int max_batch) {
    ModelConfig config = config_;
    config.n_layers = n_layers;
    auto base = MadeModel::Make(config, GetParam().dtype);
    EXPECT_TRUE(base.ok()) << base.status();
    format_ = {GetParam().dtype, (*base)->embedding_dtype(), GetParam().weights};
    auto files = (*base)->Files(n_layers);
    EXPECT_TRUE(files.ok()) << files.status();
    CudaBackendOptions options;
    options.weights = GetParam().weights;
    options.adapter_bytes = kAdapters * (AdapterBytes(config, kRank) + (size_t{1} << 20));
    auto ops = CreateCudaDecoderOps(options);
    EXPECT_TRUE(ops.ok()) << ops.status();
    DecoderOptions decoder_options;
    decoder_options.n_kv_blocks = max_batch * KvBlocksFor(kContext);
    decoder_options.max_seqs = max_batch;
    decoder_options.max_batch_tokens = max_batch;
    decoder_options.max_adapters_per_seq = 1;
    auto decoder = Decoder::Create(**files, *std::move(ops), decoder_options);
    EXPECT_TRUE(decoder.ok()) << decoder.status();
    return *std::move(decoder);
  }

  // Of one step of decode; the keys and values of its contexts are whatever the cache holds.
  static Counted Count(Decoder* decoder, int batch_size, int n_adapters) {
    Batch batch;
    batch.Clear();
    for (int i = 0; i < batch_size; ++i) {
      batch.token_ids.push_back(i);
      batch.positions.push_back(kContext - 1);
      batch.cu_seqlens.push_back(i + 1);
      batch.seats.push_back(i);
      std::vector<int32_t> blocks;
      for (int b = 0; b < KvBlocksFor(kContext); ++b) blocks.push_back(i * KvBlocksFor(kContext) + b);
      batch.ChangeBlocks(i, 0, blocks);
      if (n_adapters > 0) {
        batch.adapter_slots.push_back(i % n_adapters);
        batch.adapter_weights.push_back(1.0f);
      }
      batch.adapter_offsets.push_back(static_cast<int32_t>(batch.adapter_slots.size()));
      batch.logit_rows.push_back(i);
      batch.sampling.emplace_back();
    }
    const emulation::Counts before = emulation::CountsNow();
    const auto ticket = decoder->Launch(batch);
    EXPECT_TRUE(ticket.ok()) << ticket.status();
    EXPECT_TRUE(decoder->Collect(*ticket).ok());
    const emulation::Counts after = emulation::CountsNow();
    return {static_cast<double>(after.kernels - before.kernels),
            static_cast<double>(after.streamed_bytes - before.streamed_bytes)};
  }

  // What kernels stream of the least bytes: everything but activations that are read and written plainly.
  double LeastStreamed(int n_layers, int batch, int n_adapters) const {
    const StepBytes least =
        LeastBytes(config_, n_layers, format_,
                   {batch, kContext, std::vector<int>(static_cast<size_t>(n_adapters), kRank)});
    double operands = config_.hidden_size;  // of the head
    for (const ProductShape& p : LayerProducts(config_)) operands += static_cast<double>(p.n_in) * n_layers;
    const double written = 2.0 * 2 * config_.kv_size() * n_layers * batch;  // new keys and values
    return least.weights + least.adapters + least.kv - written + 2 * operands * batch;
  }

  static constexpr int kAdapters = 16, kRank = 16;
  emulation::Settings settings_;
  ModelConfig config_;
  WeightFormat format_;
};

TEST_P(StepCostTest, BytesAreTheLeastWithinThreePercentAndAdaptersLaunchNothing) {
  const std::unique_ptr<Decoder> decoder = MakeDecoder(1, kAdapters);
  const RandomAdapter adapter(decoder->config(), kRank, 3);
  for (int slot = 0; slot < kAdapters; ++slot) {
    auto packed = decoder->backend().PackAdapter(adapter.pairs());
    ASSERT_TRUE(packed.ok()) << packed.status();
    testing::FillAndWait(&decoder->adapter_slots(), slot, *std::move(packed));
  }
  const ModelConfig whole = *ShapeNamed(GetParam().shape);
  double base_kernels = 0;
  for (const auto& [batch, n_adapters] : GetParam().loads) {
    SCOPED_TRACE(absl::StrCat("B = ", batch, ", ", n_adapters, " adapters"));
    const Counted counted = Count(decoder.get(), batch, n_adapters);
    const double least = LeastStreamed(1, batch, n_adapters);
    EXPECT_GT(counted.bytes, 0.99 * least);  // less would be something that was not counted
    EXPECT_LT(counted.bytes, 1.03 * least);
    if (base_kernels == 0) base_kernels = counted.kernels;
    EXPECT_EQ(counted.kernels, base_kernels);
    const DecodeStep step = {batch, kContext, std::vector<int>(static_cast<size_t>(n_adapters), kRank)};
    const double bytes = LeastBytes(whole, whole.n_layers, format_, step).total();
    std::printf("| %s | %d | %d | %.2f GB | %.3f | %.2f ms |\n", NameOf(GetParam()).c_str(), batch,
                n_adapters, bytes / 1e9, counted.bytes / least, 1e3 * bytes / kH200BytesPerSecond);
  }
}

// Of the other types matrix_test.cu holds the bytes on the device against the file's, linear_test.cu the
// bytes that a product reads against those on the device.
constexpr auto kFp8 = CudaBackendOptions::Weights::kFp8;

INSTANTIATE_TEST_SUITE_P(Shapes, StepCostTest,
                         ::testing::Values(Case{"1b", DType::kBF16, {{1, 0}, {1, 1}, {16, 0}, {16, 16}}},
                                           Case{"1b", DType::kBF16, {{16, 16}}, kFp8},
                                           Case{"1b", DType::kQ4_0, {{16, 16}}},
                                           Case{"1b", DType::kQ4_K, {{16, 16}}},
                                           Case{"1b", DType::kQ5_K, {{1, 0}}},
                                           Case{"1b", DType::kF16, {{1, 0}}}),
                         [](const auto& info) { return NameOf(info.param); });
// Minutes of an emulated GPU: `ctest -R gpu_step_cost` runs them.
const std::vector<Load> kLoads = {{1, 0}, {16, 0}, {16, 16}};
INSTANTIATE_TEST_SUITE_P(
    DISABLED_Large, StepCostTest,
    ::testing::Values(Case{"8b", DType::kBF16, kLoads}, Case{"8b", DType::kBF16, kLoads, kFp8},
                      Case{"8b", DType::kQ4_0, kLoads}, Case{"8b", DType::kQ4_K, kLoads},
                      Case{"8b", DType::kQ5_K, {{1, 0}}}, Case{"70b", DType::kBF16, {{16, 16}}, kFp8},
                      Case{"70b", DType::kQ4_0, {{1, 0}, {16, 16}}}, Case{"70b", DType::kQ4_K, {{1, 0}}}),
    [](const auto& info) { return NameOf(info.param); });

// Of a layer: two norms, four products, rotation, attention, SwiGLU; and no more around the layers than a
// few.
TEST(StepLaunchesTest, ALayerIsNineKernelsAndAStepIsOneLaunch) {
  ModelConfig config = *ShapeNamed("tiny");
  const auto base = MadeModel::Make(config, DType::kBF16);
  ASSERT_TRUE(base.ok()) << base.status();
  const auto run = [&](int n_layers, bool graphs) {
    CudaBackendOptions options;
    options.graphs = graphs;
    options.adapter_bytes = 1 << 20;
    DecoderOptions decoder_options;
    decoder_options.n_kv_blocks = 4;
    decoder_options.max_batch_tokens = decoder_options.max_seqs = 2;
    auto decoder =
        Decoder::Create(**(*base)->Files(n_layers), *CreateCudaDecoderOps(options), decoder_options);
    EXPECT_TRUE(decoder.ok()) << decoder.status();
    emulation::Counts counts[3];
    for (int step = 0; step < 3; ++step) {
      Batch batch;
      batch.Clear();
      batch.token_ids = {step};
      batch.positions = {step};
      batch.cu_seqlens.push_back(1);
      batch.seats = {0};
      const std::vector<int32_t> blocks = {0};
      if (step == 0) batch.ChangeBlocks(0, 0, blocks);
      batch.adapter_offsets.push_back(0);
      batch.logit_rows = {0};
      batch.sampling.emplace_back();
      const auto ticket = (*decoder)->Launch(batch);
      EXPECT_TRUE(ticket.ok() && (*decoder)->Collect(*ticket).ok());
      counts[step] = emulation::CountsNow();
    }
    return std::pair(counts[2].kernels - counts[1].kernels,
                     counts[2].graph_launches - counts[1].graph_launches);
  };
  const auto [two, no_graph] = run(2, false);
  const auto [four, no_graph_either] = run(4, false);
  EXPECT_EQ(four - two, 2 * 9u);
  EXPECT_LE(two, 2 * 9u + 8u);  // block changes, embedding, last norm, head, sampling
  EXPECT_EQ(no_graph + no_graph_either, 0u);
  EXPECT_EQ(run(2, true).second, 1u);
}

}  // namespace
}  // namespace coterie::bench
