#include <gtest/gtest.h>

#include <bit>
#include <random>

#include "kernels/create.h"
#include "model/decoder/decoder.h"
#include "tests/model/decoder/sequences.h"
#include "tests/source_root.h"
#include "tests/testing/backends.h"
#include "tests/testing/seed.h"

// A sequence's logits are the same bits alone and in any batch, under any cutting of its prompt, with any
// number of threads, on every instruction set, and on blocks that another sequence filled (docs/numerics.md).
namespace coterie {
namespace {

using testing::AddToBatch;
using testing::Backend;
using testing::LogitRows;
using testing::TestSequence;

const std::filesystem::path kData = testing::SourceRoot() / "tests/data";
constexpr int kBlocksPerSequence = 8;
constexpr int kSequences = 16;

// Bits of the logits of every token of one sequence.
using Bits = std::vector<uint32_t>;

struct Model {
  std::unique_ptr<Decoder> decoder;
  std::vector<std::unique_ptr<LoadedAdapter>> adapters;

  Model(const std::filesystem::path& path, const std::vector<std::string>& adapter_names,
        std::unique_ptr<DecoderOps> backend, std::optional<DType> float_weights = std::nullopt) {
    absl::StatusOr<std::unique_ptr<ModelFiles>> files = ModelFiles::Open(path);
    EXPECT_TRUE(files.ok()) << files.status();
    DecoderOptions decoder_options;
    decoder_options.n_kv_blocks = kSequences * kBlocksPerSequence;
    decoder_options.max_batch_tokens = 2048;
    decoder_options.max_seqs = kSequences;
    decoder_options.max_logit_rows = 2048;
    decoder_options.float_weights = float_weights;
    decoder = std::move(Decoder::Create(**files, std::move(backend), decoder_options)).value();
    for (const std::string& name : adapter_names) {
      absl::StatusOr<std::unique_ptr<LoadedAdapter>> adapter =
          decoder->LoadAdapter(kData / "tiny-adapters" / name);
      EXPECT_TRUE(adapter.ok()) << adapter.status();
      testing::FillAndWait(&decoder->adapter_slots(), static_cast<int>(adapters.size()), (*adapter)->packed);
      adapters.push_back(std::move(*adapter));
    }
  }

  // One step; the logits of sequence i's tokens are appended to (*bits)[i].
  void Step(const std::vector<TestSequence*>& sequences, const std::vector<int>& counts,
            const std::vector<Bits*>& bits) {
    Batch batch;
    batch.Clear();
    for (size_t i = 0; i < sequences.size(); ++i)
      AddToBatch(sequences[i], counts[i], LogitRows::kAll, &batch);
    const StatusOr<std::span<const float>> run = testing::RunForLogits(decoder.get(), &batch);
    ASSERT_TRUE(run.ok()) << run.status();
    const std::span<const float> logits = *run;
    size_t at = 0;
    const size_t vocab = static_cast<size_t>(decoder->info().vocab_size);
    for (size_t i = 0; i < sequences.size(); ++i) {
      for (size_t n = static_cast<size_t>(counts[i]) * vocab; n > 0; --n) {
        bits[i]->push_back(std::bit_cast<uint32_t>(logits[at++]));
      }
    }
  }
};

struct Case {
  const char* name;
  const char* model;
  std::vector<std::string> adapters;
  Backend backend;
  std::optional<DType> float_weights = std::nullopt;  // rounded to it when they are loaded
};

class BatchInvariance : public ::testing::TestWithParam<Case> {
 protected:
  void SetUp() override {
    random_.seed(testing::TestSeed());
    for (int s = 0; s < kSequences; ++s) {
      prompts_.push_back({});
      const int n = Int(70, kBlocksPerSequence * kKvBlockTokens);  // across the 64-key segments
      for (int i = 0; i < n; ++i) prompts_.back().push_back(Int(0, 383));
    }
  }

  int Int(int lo, int hi) { return std::uniform_int_distribution<int>(lo, hi)(random_); }

  static Model Load(std::unique_ptr<DecoderOps> backend) {
    const Case& c = GetParam();
    return Model(kData / c.model, c.adapters, std::move(backend), c.float_weights);
  }

  // Sequence s under its adapters: bases, single adapters, weighted pairs and gated ones side by side.
  TestSequence Make(const Model& model, int s) {
    TestSequence sequence;
    sequence.tokens = prompts_[static_cast<size_t>(s)];
    sequence.UseBlocks(s * kBlocksPerSequence, static_cast<int>(sequence.tokens.size()));
    const std::vector<GateKind>& gates = model.decoder->info().gates;
    if (s % 2 == 1 && !gates.empty() && !model.adapters.empty()) {
      const auto n = static_cast<int>(model.adapters.size());
      for (int i = 0; i < n; ++i) sequence.adapter_slots.push_back((s + i) % n);
      sequence.weights.assign(model.adapters.size(), 1.0f);
      const GateKind kind = gates[static_cast<size_t>(s / 2) % gates.size()];
      sequence.gate = {kind, kind == GateKind::kGateless ? n : 1 + s / 2 % n, static_cast<uint64_t>(s)};
      return sequence;
    }
    if (!model.adapters.empty() && s % 3 != 0) {
      sequence.adapter_slots.push_back(s % static_cast<int>(model.adapters.size()));
      sequence.weights.push_back(s % 3 == 1 ? 1.0f : 0.625f);
    }
    if (!model.adapters.empty() && s % 3 == 2) {
      sequence.adapter_slots.push_back((s + 1) % static_cast<int>(model.adapters.size()));
      sequence.weights.push_back(0.375f);
    }
    return sequence;
  }

  Bits Alone(Model* model, int s) {
    TestSequence sequence = Make(*model, s);
    Bits bits;
    model->Step({&sequence}, {static_cast<int>(sequence.tokens.size())}, {&bits});
    return bits;
  }

  std::mt19937 random_;
  std::vector<std::vector<int32_t>> prompts_;
};

// The end of the last layer runs for the wanted rows alone, and long steps run in parts, of which some have
// no such rows.
TEST_P(BatchInvariance, LogitsDoNotDependOnWhichOthersAreWanted) {
  if (testing::ShortOf(GetParam().backend)) GTEST_SKIP() << "minutes of an emulated GPU";
  Model model = Load(testing::MakeDecoderOps(GetParam().backend, 2));
  constexpr int kUsed = 8;
  std::vector<Bits> alone;
  for (int s = 0; s < kUsed; ++s) alone.push_back(Alone(&model, s));
  const size_t vocab = static_cast<size_t>(model.decoder->info().vocab_size);
  for (const int one_in : {1000000, 40, 2}) {
    std::vector<TestSequence> sequences;
    for (int s = 0; s < kUsed; ++s) sequences.push_back(Make(model, s));
    for (bool done = false; !done;) {
      Batch batch;
      batch.Clear();
      std::vector<std::pair<size_t, size_t>> wanted;  // sequence, position
      done = true;
      for (size_t s = 0; s < sequences.size(); ++s) {
        const int left = static_cast<int>(sequences[s].tokens.size()) - sequences[s].n_done;
        const int n = std::min(left, Int(1, 110));
        if (n == 0) continue;
        const int first_row = batch.n_tokens();
        const auto first_position = static_cast<size_t>(sequences[s].n_done);
        AddToBatch(&sequences[s], n, LogitRows::kNone, &batch);
        for (int i = 0; i < n; ++i) {
          const bool last = first_position + static_cast<size_t>(i) + 1 == sequences[s].tokens.size();
          if (!last && Int(1, one_in) != 1) continue;
          batch.logit_rows.push_back(first_row + i);
          wanted.emplace_back(s, first_position + static_cast<size_t>(i));
        }
        done = done && n == left;
      }
      const StatusOr<std::span<const float>> run = testing::RunForLogits(model.decoder.get(), &batch);
      ASSERT_TRUE(run.ok()) << run.status();
      const std::span<const float> logits = *run;
      ASSERT_EQ(logits.size(), wanted.size() * vocab);
      for (size_t i = 0; i < logits.size(); ++i) {
        const auto [s, position] = wanted[i / vocab];
        ASSERT_EQ(std::bit_cast<uint32_t>(logits[i]), alone[s][position * vocab + i % vocab])
            << "sequence " << s << ", position " << position;
      }
    }
  }
}

TEST_P(BatchInvariance, LogitsKeepTheirBitsInAnyBatchAndUnderAnyChunking) {
  if (testing::ShortOf(GetParam().backend)) GTEST_SKIP() << "minutes of an emulated GPU";
  Model model = Load(testing::MakeDecoderOps(GetParam().backend, /*n_threads=*/1));
  std::vector<Bits> alone;
  for (int s = 0; s < kSequences; ++s) alone.push_back(Alone(&model, s));

  // All sixteen at once, whole; then again and again in random chunks (decodes among them), in random order.
  const int n_rounds = GetParam().backend == Backend::kGpu ? 2 : 4;
  for (int round = 0; round < n_rounds; ++round) {
    std::vector<TestSequence> sequences;
    std::vector<Bits> bits(kSequences);
    for (int s = 0; s < kSequences; ++s) sequences.push_back(Make(model, s));
    for (;;) {
      std::vector<TestSequence*> chosen;
      std::vector<int> counts;
      std::vector<Bits*> to;
      std::vector<int> order(kSequences);
      for (int s = 0; s < kSequences; ++s) order[static_cast<size_t>(s)] = s;
      if (round > 0) std::shuffle(order.begin(), order.end(), random_);
      for (const int s : order) {
        TestSequence& sequence = sequences[static_cast<size_t>(s)];
        const int left = static_cast<int>(sequence.tokens.size()) - sequence.n_done;
        if (left == 0 || (round > 0 && Int(0, 4) == 0)) continue;
        chosen.push_back(&sequence);
        counts.push_back(round == 0 ? left : std::min(left, Int(0, 2) == 0 ? Int(1, 50) : 1));
        to.push_back(&bits[static_cast<size_t>(s)]);
      }
      if (chosen.empty()) {
        bool done = true;
        for (const TestSequence& s : sequences) done = done && s.n_done == static_cast<int>(s.tokens.size());
        if (done) break;
        continue;
      }
      model.Step(chosen, counts, to);
    }
    for (size_t s = 0; s < kSequences; ++s)
      ASSERT_EQ(bits[s], alone[s]) << "sequence " << s << " in round " << round;
  }
}

TEST_P(BatchInvariance, LogitsKeepTheirBitsOnEveryInstructionSetAndThreadCount) {
  if (GetParam().backend == Backend::kGpu) GTEST_SKIP() << "instruction sets are the CPU's";
  Model reference = Load(testing::MakeDecoderOps(GetParam().backend, /*n_threads=*/1));
  const std::vector<int> some = {0, 1, 2, 3, 4, 5};  // gateless, noisy and arrow among them
  std::vector<Bits> expected;
  for (const int s : some) expected.push_back(Alone(&reference, s));
  for (const char* isa : {"avx512_bf16", "avx512", "avx2", "neon_dot", "highway", "portable"}) {
    for (const int n_threads : {1, 2, 3}) {
      const NumericsMode mode =
          GetParam().backend == Backend::kExact ? NumericsMode::kExact : NumericsMode::kFast;
      auto backend =
          CreateCpuDecoderOps({.mode = mode, .n_threads = n_threads, .isa = isa, .arrow_gates = true});
      if (!backend.ok()) continue;  // not on this machine
      Model model = Load(*std::move(backend));
      EXPECT_EQ(model.decoder->info().numerics_class, reference.decoder->info().numerics_class);
      for (size_t i = 0; i < some.size(); ++i) {
        ASSERT_EQ(Alone(&model, some[i]), expected[i]) << isa << ", " << n_threads << " threads";
      }
    }
  }
}

// The prefix cache: a second sequence starts on blocks that the first one filled.
TEST_P(BatchInvariance, LogitsKeepTheirBitsOnReusedPrefixBlocks) {
  Model model = Load(testing::MakeDecoderOps(GetParam().backend));
  for (const int s : {0, 1, 2, 3, 5}) {
    const Bits expected = Alone(&model, s);
    const size_t vocab = static_cast<size_t>(model.decoder->info().vocab_size);
    for (const int n_shared_blocks : {1, 3, 4}) {
      TestSequence sequence = Make(model, s);
      const int n_shared = n_shared_blocks * kKvBlockTokens;
      // Fresh blocks for the rest; the shared ones are those that Alone left behind.
      for (size_t b = static_cast<size_t>(n_shared_blocks); b < sequence.blocks.size(); ++b) {
        sequence.blocks[b] = (kSequences - 1) * kBlocksPerSequence + static_cast<int32_t>(b);
      }
      sequence.n_done = n_shared;
      Bits bits;
      model.Step({&sequence}, {static_cast<int>(sequence.tokens.size()) - n_shared}, {&bits});
      const Bits tail(expected.begin() + static_cast<int64_t>(static_cast<size_t>(n_shared) * vocab),
                      expected.end());
      ASSERT_EQ(bits, tail) << n_shared_blocks << " blocks of sequence " << s;
    }
  }
}

const std::vector<std::string> kLlamaAdapters = {"llama-all-linear", "llama-qv", "llama-top-layers",
                                                 "llama-patterns"};

INSTANTIATE_TEST_SUITE_P(
    All, BatchInvariance,
    ::testing::ValuesIn(testing::OnThisMachine(std::vector<Case>{
        {"LlamaExact", "tiny-llama", kLlamaAdapters, Backend::kExact},
        {"LlamaQuantisedFast", "tiny-llama-q.gguf", kLlamaAdapters, Backend::kFast},
        {"LlamaQuantisedExact", "tiny-llama-q.gguf", kLlamaAdapters, Backend::kExact},
        {"LlamaInQ8_0", "tiny-llama", kLlamaAdapters, Backend::kFast, DType::kQ8_0},
        {"LlamaInQ4_1", "tiny-llama", kLlamaAdapters, Backend::kFast, DType::kQ4_1},
        {"Qwen2Fast", "tiny-qwen2", {"qwen2-all-linear"}, Backend::kFast},
        {"Qwen2InQ8_0", "tiny-qwen2", {"qwen2-all-linear"}, Backend::kFast, DType::kQ8_0},
        {"Qwen3Fast", "tiny-qwen3", {"qwen3-all-linear"}, Backend::kFast},
        {"Phi3Fast", "tiny-phi3", {"phi3-all-linear", "phi3-fused"}, Backend::kFast},
        {"Gemma3Exact", "tiny-gemma3", {"gemma3-all-linear"}, Backend::kExact},
        {"Gemma3Fast", "tiny-gemma3", {"gemma3-all-linear"}, Backend::kFast},
        {"LlamaGpu", "tiny-llama", kLlamaAdapters, Backend::kGpu},
        {"LlamaQuantisedGpu", "tiny-llama-q.gguf", kLlamaAdapters, Backend::kGpu},
        {"Qwen2Gpu", "tiny-qwen2", {"qwen2-all-linear"}, Backend::kGpu},
        {"Qwen3Gpu", "tiny-qwen3", {"qwen3-all-linear"}, Backend::kGpu},
        {"Phi3Gpu", "tiny-phi3", {"phi3-all-linear", "phi3-fused"}, Backend::kGpu}})),
    [](const auto& info) { return std::string(info.param.name); });

TEST(Decoder, RefusesBatchesBeyondItsLimitsNamingThem) {
  Model model(kData / "tiny-llama", {}, testing::MakeDecoderOps(Backend::kExact));
  TestSequence sequence;
  sequence.tokens = {1, 2, 384};
  sequence.UseBlocks(0, 3);
  Batch batch;
  batch.Clear();
  AddToBatch(&sequence, 3, LogitRows::kLast, &batch);
  absl::Status status = testing::RunForLogits(model.decoder.get(), &batch).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_NE(status.message().find("384"), absl::string_view::npos) << status;
  batch.token_ids[2] = 3;
  batch.positions[2] = model.decoder->info().context_length;
  status = testing::RunForLogits(model.decoder.get(), &batch).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
}

TEST(Decoder, RefusesOptionsOutOfRangeNamingTheField) {
  absl::StatusOr<std::unique_ptr<ModelFiles>> files = ModelFiles::Open(kData / "tiny-llama");
  ASSERT_TRUE(files.ok());
  const auto create = [&](const DecoderOptions& options) {
    return Decoder::Create(**files, std::move(CreateCpuDecoderOps({})).value(), options).status();
  };
  EXPECT_EQ(create({}).code(), absl::StatusCode::kInvalidArgument);  // no room for KV
  EXPECT_NE(create({.kv_bytes = 1}).message().find("kv_bytes"), absl::string_view::npos);
  EXPECT_NE(create({.n_kv_blocks = 4, .max_seqs = 0}).message().find("max_seqs"), absl::string_view::npos);
  EXPECT_TRUE(create({.kv_bytes = 1 << 20}).ok());
}

}  // namespace
}  // namespace coterie
