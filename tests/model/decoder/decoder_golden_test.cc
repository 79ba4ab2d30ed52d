#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>

#include "kernels/create.h"
#include "model/decoder/decoder.h"
#include "model/text/gguf_tokenizer.h"
#include "tests/golden/golden_arrays.h"
#include "tests/model/decoder/sequences.h"
#include "tests/source_root.h"
#include "tests/testing/backends.h"

// The decoder against transformers and PEFT in float32 (tests/golden/make_logits.py).
namespace coterie {
namespace {

using testing::AddToBatch;
using testing::Backend;
using testing::GoldenArray;
using testing::LogitRows;
using testing::TestSequence;

std::unique_ptr<Decoder> OpenDecoder(const std::filesystem::path& path, Backend backend, int n_tokens) {
  absl::StatusOr<std::unique_ptr<ModelFiles>> files = ModelFiles::Open(path);
  EXPECT_TRUE(files.ok()) << files.status();
  if (!files.ok()) return nullptr;
  DecoderOptions options;
  options.n_kv_blocks = 32;
  options.max_batch_tokens = 256;
  options.max_logit_rows = 256;
  // transformers takes LongRoPE's factors by the length of the prompt, we by the longest one that is served.
  const RopeScaling& scaling = (*files)->config().rope_scaling;
  if (scaling.kind == RopeScaling::Kind::kLongRope && n_tokens <= scaling.original_context) {
    options.max_context = scaling.original_context;
  }
  absl::StatusOr<std::unique_ptr<Decoder>> decoder =
      Decoder::Create(**files, testing::MakeDecoderOps(backend), options);
  EXPECT_TRUE(decoder.ok()) << decoder.status();
  return decoder.ok() ? std::move(*decoder) : nullptr;
}

// [n_tokens, vocab]
std::vector<float> AllLogits(Decoder* decoder, TestSequence sequence) {
  sequence.UseBlocks(0, static_cast<int>(sequence.tokens.size()));
  Batch batch;
  batch.Clear();
  AddToBatch(&sequence, static_cast<int>(sequence.tokens.size()), LogitRows::kAll, &batch);
  const StatusOr<std::span<const float>> run = testing::RunForLogits(decoder, &batch);
  EXPECT_TRUE(run.ok()) << run.status();
  const std::span<const float> logits = *run;
  return {logits.begin(), logits.end()};
}

struct Error {
  double largest;  // difference of a logit, over the logits' root mean square
  double rms;      // root mean square of the differences, over the same
};
Error RelativeError(const std::vector<float>& all, const std::vector<uint16_t>& rows,
                    const std::vector<float>& expected, size_t vocab) {
  double worst = 0, squares = 0, error_squares = 0;
  for (size_t r = 0; r < rows.size(); ++r) {
    for (size_t v = 0; v < vocab; ++v) {
      const double want = expected[r * vocab + v];
      const double error = all[rows[r] * vocab + v] - want;
      worst = std::max(worst, std::abs(error));
      error_squares += error * error;
      squares += want * want;
    }
  }
  return {worst / std::sqrt(squares / static_cast<double>(rows.size() * vocab)),
          std::sqrt(error_squares / squares)};
}

std::filesystem::path PathOf(const std::string& model) {
  const std::filesystem::path data = testing::SourceRoot() / "tests/data";
  return std::filesystem::is_directory(data / model) ? data / model : data / (model + ".gguf");
}

class GoldenLogits : public ::testing::Test {
 protected:
  void SetUp() override {
    absl::StatusOr<std::map<std::string, GoldenArray>> arrays =
        testing::ReadGoldenArrays(testing::SourceRoot() / "tests/golden/tiny_logits.bin");
    ASSERT_TRUE(arrays.ok()) << arrays.status();
    arrays_ = std::move(*arrays);
  }

  void Check(const std::string& name, const std::filesystem::path& model,
             const std::filesystem::path& adapter, Backend backend, double bound) {
    SCOPED_TRACE(name + " " + model.string());
    ASSERT_TRUE(arrays_.count(name + ".ids")) << "no golden of that name";
    TestSequence sequence;
    for (uint16_t id : arrays_[name + ".ids"].As<uint16_t>()) sequence.tokens.push_back(id);
    std::unique_ptr<Decoder> decoder = OpenDecoder(model, backend, static_cast<int>(sequence.tokens.size()));
    ASSERT_NE(decoder, nullptr);
    ASSERT_GE(sequence.tokens.size(), size_t{testing::kTestFastRows}) << "no product would be fast";
    std::unique_ptr<LoadedAdapter> loaded;
    if (!adapter.empty()) {
      absl::StatusOr<std::unique_ptr<LoadedAdapter>> result = decoder->LoadAdapter(adapter);
      ASSERT_TRUE(result.ok()) << result.status();
      loaded = std::move(*result);
      testing::FillAndWait(&decoder->adapter_slots(), 0, loaded->packed);
      sequence.adapter_slots = {0};
      sequence.weights = {1.0f};
    }
    const size_t vocab = static_cast<size_t>(decoder->info().vocab_size);
    const Error error =
        RelativeError(AllLogits(decoder.get(), sequence), arrays_[name + ".rows"].As<uint16_t>(),
                      arrays_[name + ".logits"].As<float>(), vocab);
    EXPECT_LT(backend == Backend::kExact ? error.largest : error.rms, bound);
  }

  // A model that is a configuration alone: its weights are those of another.
  void CheckVariant(const std::string& name, const std::string& weights_of, Backend backend, double bound) {
    const std::filesystem::path data = testing::SourceRoot() / "tests/data";
    const std::filesystem::path folder =
        std::filesystem::path(::testing::TempDir()) / (name + testing::NameOf(backend));
    std::filesystem::remove_all(folder);
    std::filesystem::create_directories(folder);
    for (const char* file : {"model.safetensors", "tokenizer.json", "tokenizer_config.json"}) {
      std::filesystem::create_symlink(data / weights_of / file, folder / file);
    }
    std::filesystem::copy_file(data / name / "config.json", folder / "config.json");
    Check(name, folder, "", backend, bound);
    std::filesystem::remove_all(folder);
  }

  void CheckEveryBaseOnAGpu(Backend backend) {
    const std::filesystem::path data = testing::SourceRoot() / "tests/data";
    for (const std::string model : {"tiny-llama", "tiny-qwen2", "tiny-qwen3", "tiny-phi3"}) {
      Check(model, data / model, "", backend, 0.02);
      Check(model, data / (model + ".gguf"), "", backend, 0.02);
    }
    Check("tiny-phi3/long", data / "tiny-phi3", "", backend, 0.02);
    Check("tiny-llama-q", PathOf("tiny-llama-q"), "", backend, 0.02);
    CheckVariant("tiny-llama-windows", "tiny-llama", backend, 0.02);
    CheckVariant("tiny-qwen3-windows", "tiny-qwen3", backend, 0.02);
  }

  void CheckEveryAdapter(Backend backend, double bound) {
    int n = 0;
    for (const auto& [name, array] : arrays_) {
      if (name.rfind("tiny-adapters/", 0) != 0 || name.size() < 4 || name.substr(name.size() - 4) != ".ids")
        continue;
      const std::string adapter = name.substr(0, name.size() - 4);
      const std::string family = adapter.substr(14, adapter.find('-', 14) - 14);  // "llama" of "llama-qv"
      const bool refused_by_gpu = family == "gemma3" || adapter == "tiny-adapters/llama-high-rank";
      if (testing::IsGpu(backend) && refused_by_gpu) continue;  // by CheckOps and by max_lora_rank
      Check(adapter, testing::SourceRoot() / "tests/data" / ("tiny-" + family),
            testing::SourceRoot() / "tests/data" / adapter, backend, bound);
      ++n;
    }
    EXPECT_GE(n, 11);
  }

  std::map<std::string, GoldenArray> arrays_;
};

TEST_F(GoldenLogits, ExactModeEqualsTransformersForEveryArchitecture) {
  for (const char* model : {"tiny-llama", "tiny-qwen2", "tiny-qwen3", "tiny-phi3", "tiny-gemma3"}) {
    Check(model, testing::SourceRoot() / "tests/data" / model, "", Backend::kExact, 2e-5);
    Check(model, testing::SourceRoot() / "tests/data" / (std::string(model) + ".gguf"), "", Backend::kExact,
          2e-5);
  }
}

TEST_F(GoldenLogits, ExactModeEqualsTransformersForQuantisedWeights) {
  Check("tiny-llama-q", PathOf("tiny-llama-q"), "", Backend::kExact, 2e-5);
}

TEST_F(GoldenLogits, ExactModeEqualsTransformersForEveryRopeScaling) {
  for (const char* kind : {"linear", "dynamic", "llama3", "yarn"}) {
    CheckVariant(std::string("tiny-llama-rope-") + kind, "tiny-llama", Backend::kExact, 2e-5);
  }
}

TEST_F(GoldenLogits, ExactModeEqualsTransformersBeyondWindowsAndOriginalContexts) {
  for (const std::string model : {"tiny-phi3", "tiny-gemma3"}) {
    Check(model + "/long", testing::SourceRoot() / "tests/data" / model, "", Backend::kExact, 2e-5);
    Check(model + "/long", testing::SourceRoot() / "tests/data" / (model + ".gguf"), "", Backend::kExact,
          2e-5);
  }
  CheckVariant("tiny-gemma3-scaled", "tiny-gemma3", Backend::kExact, 2e-5);
}

TEST_F(GoldenLogits, ExactModeEqualsTransformersWithSlidingWindows) {
  CheckVariant("tiny-llama-windows", "tiny-llama", Backend::kExact, 2e-5);
  CheckVariant("tiny-qwen3-windows", "tiny-qwen3", Backend::kExact, 2e-5);
}

TEST_F(GoldenLogits, FastModeStaysNearTransformers) {
  Check("tiny-llama-q", PathOf("tiny-llama-q"), "", Backend::kFast, 0.06);
  Check("tiny-qwen3", PathOf("tiny-qwen3"), "", Backend::kFast, 0.02);
  Check("tiny-phi3/long", PathOf("tiny-phi3"), "", Backend::kFast, 0.02);
  Check("tiny-gemma3/long", PathOf("tiny-gemma3"), "", Backend::kFast, 0.02);
}

TEST_F(GoldenLogits, AGpuStaysNearTransformers) {
  if (!testing::HasGpu()) GTEST_SKIP() << "no GPU is here, and this build emulates none";
  CheckEveryBaseOnAGpu(Backend::kGpu);
}

TEST_F(GoldenLogits, AGpuRefusesTheOpsOfGemmaThatItLacksByName) {
  if (!testing::HasGpu()) GTEST_SKIP() << "no GPU is here, and this build emulates none";
  auto files = ModelFiles::Open(testing::SourceRoot() / "tests/data/tiny-gemma3");
  ASSERT_TRUE(files.ok()) << files.status();
  DecoderOptions options;
  options.n_kv_blocks = 32;
  const Status refused = Decoder::Create(**files, testing::MakeDecoderOps(Backend::kGpu), options).status();
  EXPECT_EQ(refused.code(), absl::StatusCode::kUnimplemented);
  EXPECT_EQ(
      refused.message(),
      "a base of the architecture gemma3 cannot run here: a GPU has no op for a scaled embedding and GeGLU "
      "and a norm after the product; --device cpu serves it");
}

TEST_F(GoldenLogits, AGpuWithFastPrefillStaysAsNearToTransformers) {
  if (!testing::HasFastGpu()) GTEST_SKIP() << "no GPU with cuBLASLt is here, and this build emulates none";
  CheckEveryBaseOnAGpu(Backend::kGpuFast);
}

TEST_F(GoldenLogits, ExactModeEqualsPeftForEveryAdapter) { CheckEveryAdapter(Backend::kExact, 5e-5); }

TEST_F(GoldenLogits, AGpuStaysNearPeftForEveryAdapter) {
  if (!testing::HasGpu()) GTEST_SKIP() << "no GPU is here, and this build emulates none";
  CheckEveryAdapter(Backend::kGpu, 0.02);
}

TEST_F(GoldenLogits, AGpuWithFastPrefillStaysAsNearToPeft) {
  if (!testing::HasFastGpu()) GTEST_SKIP() << "no GPU with cuBLASLt is here, and this build emulates none";
  CheckEveryAdapter(Backend::kGpuFast, 0.02);
}

}  // namespace
}  // namespace coterie
