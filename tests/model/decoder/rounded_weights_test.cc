// Bases of floats whose matrices are rounded when they are loaded.
#include <bit>

#include "kernels/create.h"
#include "kernels/formats/quantize.h"
#include "model/decoder/decoder.h"
#include "model/decoder/memory_plan.h"
#include "model/decoder/weight_matrix.h"
#include "model/format/dequantize.h"
#include "model/format/weight_names.h"
#include "tests/model/decoder/sequences.h"
#include "tests/model/format/expect_refused.h"
#include "tests/model/format/gguf_writer.h"
#include "tests/model/format/temp_folder.h"
#include "tests/model/format/tiny_model.h"
#include "tests/source_root.h"

namespace coterie {
namespace {

using ::testing::HasSubstr;

std::filesystem::path TinyData(const std::string& name) {
  return testing::SourceRoot() / "tests/data" / name;
}

std::unique_ptr<ModelFiles> OpenTiny(const std::string& name) {
  return std::move(ModelFiles::Open(TinyData(name))).value();
}

std::unique_ptr<DecoderOps> CpuOps(NumericsMode mode = NumericsMode::kFast) {
  return std::move(CreateCpuDecoderOps({.mode = mode, .n_threads = 2})).value();
}

DecoderOptions OptionsOf(std::optional<DType> float_weights) {
  DecoderOptions options;
  options.n_kv_blocks = 16;
  options.max_logit_rows = 64;
  options.float_weights = float_weights;
  return options;
}

std::unique_ptr<Decoder> LoadRounded(const ModelFiles& files, std::optional<DType> float_weights,
                                     NumericsMode mode = NumericsMode::kFast) {
  return std::move(Decoder::Create(files, CpuOps(mode), OptionsOf(float_weights))).value();
}

std::vector<uint32_t> LogitBits(Decoder* decoder) {
  testing::TestSequence sequence;
  for (int i = 0; i < 40; ++i) sequence.tokens.push_back(i * 11 % 380);
  sequence.UseBlocks(0, 40);
  Batch batch;
  batch.Clear();
  testing::AddToBatch(&sequence, 40, testing::LogitRows::kAll, &batch);
  std::vector<uint32_t> bits;
  const StatusOr<std::span<const float>> logits = testing::RunForLogits(decoder, &batch);
  EXPECT_TRUE(logits.ok()) << logits.status();
  if (!logits.ok()) return bits;
  for (const float logit : *logits) bits.push_back(std::bit_cast<uint32_t>(logit));
  return bits;
}

// The base of tests/data/tiny-qwen3 as a GGUF file whose matrices were rounded before.
std::string RoundedGguf(const ModelFiles& files, DType type) {
  const ModelConfig& c = files.config();
  testing::GgufWriter writer = testing::TinyGgufMetadata(c);
  writer.AddU32("qwen3.attention.key_length", static_cast<uint32_t>(c.head_dim))
      .AddU32("qwen3.attention.value_length", static_cast<uint32_t>(c.head_dim))
      .AddF32("qwen3.rope.freq_base", static_cast<float>(c.rope_theta));
  testing::ForEachWeight(c, [&](WeightRole role, int layer, const std::vector<int64_t>& shape) {
    const std::string name = WeightName(role, layer, c.architecture, /*is_gguf=*/true);
    const std::vector<float> values = DequantizeTensor(files.Get(role, layer).tensor);
    if (shape.size() == 1) {
      writer.AddF32Tensor(name, shape, values);
      return;
    }
    const DType rounded = role == WeightRole::kTokenEmbedding ? DType::kQ8_0 : type;
    std::string blocks(static_cast<size_t>(RowBytes(rounded, std::ssize(values))), '\0');
    const Status status = Quantize(rounded, values, reinterpret_cast<uint8_t*>(blocks.data()));
    ASSERT_TRUE(status.ok()) << status;
    writer.AddTensor(name, rounded == DType::kQ8_0 ? 8 : 3, shape, blocks);
  });
  return writer.Bytes();
}

TEST(RoundedWeightsTest, LogitsAreThoseOfAFileThatWasRoundedBefore) {
  const auto files = OpenTiny("tiny-qwen3");
  for (const DType type : {DType::kQ8_0, DType::kQ4_1}) {
    const std::string gguf = RoundedGguf(*files, type);
    const auto before =
        std::move(ModelFiles::FromGguf(GgufFile::Parse(testing::AsBytes(gguf), "rounded.gguf").value()))
            .value();
    for (const NumericsMode mode : {NumericsMode::kFast, NumericsMode::kExact}) {
      const std::vector<uint32_t> bits = LogitBits(LoadRounded(*files, type, mode).get());
      EXPECT_EQ(bits, LogitBits(LoadRounded(*before, std::nullopt, mode).get()));
      EXPECT_NE(bits, LogitBits(LoadRounded(*files, std::nullopt, mode).get()));
    }
  }
}

TEST(RoundedWeightsTest, TheClassSaysSoWhereSomethingWasRoundedAndNowhereElse) {
  struct {
    const char* model;
    std::optional<DType> type;
    int n_rounded;
    const char* suffix;
  } const cases[] = {
      {"tiny-llama", std::nullopt, 0, "kv=bf16"},
      {"tiny-llama", DType::kQ8_0, 2 + 3 * 7, "kv=bf16 w=q8_0"},
      {"tiny-llama", DType::kQ4_1, 2 + 3 * 7, "kv=bf16 w=q4_1"},
      {"tiny-qwen3", DType::kQ8_0, 1 + 3 * 7, "kv=bf16 w=q8_0"},
      // Of 48 inputs, which are no whole blocks; those of `down` are.
      {"tiny-qwen2", DType::kQ8_0, 2, "kv=bf16 w=q8_0"},
      {"tiny-llama-q.gguf", DType::kQ8_0, 0, "kv=bf16"},
  };
  for (const auto& c : cases) {
    const auto decoder = LoadRounded(*OpenTiny(c.model), c.type);
    EXPECT_EQ(decoder->info().n_rounded_matrices, c.n_rounded) << c.model;
    EXPECT_TRUE(decoder->info().numerics_class.ends_with(c.suffix))
        << c.model << ": " << decoder->info().numerics_class;
  }
}

TEST(RoundedWeightsTest, ThePlanCountsWhatIsHeldNotWhatTheFilesHave) {
  const auto files = OpenTiny("tiny-llama");
  std::vector<uint64_t> planned;
  for (const std::optional<DType> type :
       {std::optional<DType>(), std::optional(DType::kQ8_0), std::optional(DType::kQ4_1)}) {
    const MemoryPlan plan = PlanMemory(*files, OptionsOf(type), *CpuOps()).value();
    const auto weights = std::ranges::find(plan.demands, std::string_view("weights"), &MemoryDemand::what);
    ASSERT_NE(weights, plan.demands.end());
    EXPECT_EQ(weights->bytes, LoadRounded(*files, type)->info().weight_bytes);
    EXPECT_THAT(weights->remedy, HasSubstr("--weights=q8_0"));
    planned.push_back(weights->bytes);
  }
  EXPECT_EQ(planned[1] * 2 * 32, planned[0] * 34);  // 34 bytes instead of 32 times 2
  EXPECT_LT(planned[2], planned[1]);
}

TEST(RoundedWeightsTest, EmbeddingAndHeadKeepEightBits) {
  const auto files = OpenTiny("tiny-llama");
  const auto rounded = [&](WeightRole role, std::optional<DType> type) {
    return MatrixOf(files->Get(role), role, type).rounded_to;
  };
  for (const WeightRole role : {WeightRole::kTokenEmbedding, WeightRole::kOutput}) {
    EXPECT_EQ(rounded(role, DType::kQ4_1), DType::kQ8_0);
    EXPECT_EQ(rounded(role, std::nullopt), std::nullopt);
  }
  EXPECT_EQ(rounded(WeightRole::kDown, DType::kQ4_1), DType::kQ4_1);
}

TEST(RoundedWeightsTest, ATensorThatCannotBeRoundedIsNamedBeforeAnythingIsServed) {
  const testing::TempFolder folder;
  std::filesystem::copy(TinyData("tiny-llama"), folder.path());
  const auto files = OpenTiny("tiny-llama");
  const TensorView& tensor = files->Get(WeightRole::kUp, 1).tensor;
  std::string content = ReadFile(TinyData("tiny-llama") / "model.safetensors", 1 << 24).value();
  const auto at = static_cast<size_t>(tensor.bytes.data() - tensor.file->bytes().data());
  content[at + 5 * 64 * 2 + 1] = '\x7f';  // row 5 begins with an infinity or NaN
  content[at + 5 * 64 * 2] = '\xc0';
  folder.Write("model.safetensors", content);
  const auto damaged = std::move(ModelFiles::Open(folder.path())).value();
  for (const DType type : {DType::kQ8_0, DType::kQ4_1}) {
    EXPECT_REFUSED(Decoder::Create(*damaged, CpuOps(), OptionsOf(type)).status(), kInvalid,
                   "tensor \"model.layers.1.mlp.up_proj.weight\", row 5: a weight is nan");
  }
}

TEST(RoundedWeightsTest, OtherTypesAreRefused) {
  EXPECT_REFUSED(Decoder::Create(*OpenTiny("tiny-llama"), CpuOps(), OptionsOf(DType::kQ6_K)).status(),
                 kInvalid, "DecoderOptions.float_weights is Q6_K: Q8_0 or Q4_1");
}

}  // namespace
}  // namespace coterie
