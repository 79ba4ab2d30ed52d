#include <gtest/gtest.h>

#include <cmath>
#include <map>

#include "kernels/create.h"
#include "model/decoder/decoder.h"
#include "tests/golden/golden_arrays.h"
#include "tests/model/decoder/sequences.h"
#include "tests/source_root.h"
#include "tests/testing/backends.h"

// Sequences whose adapters are weighted by gates, against plain float64 (tests/golden/make_gates.py) and
// against adapters alone. What shares their batch: decoder_invariance_test.cc.
namespace coterie {
namespace {

using testing::AddToBatch;
using testing::Backend;
using testing::GoldenArray;
using testing::LogitRows;
using testing::TestSequence;

const std::filesystem::path kGatesData = testing::SourceRoot() / "tests/data";

class GatedDecoder : public ::testing::Test {
 protected:
  void Open(const std::string& model, std::unique_ptr<DecoderOps> backend) {
    decoder_.reset();
    loaded_.clear();
    absl::StatusOr<std::unique_ptr<ModelFiles>> files = ModelFiles::Open(kGatesData / model);
    ASSERT_TRUE(files.ok()) << files.status();
    absl::StatusOr<std::unique_ptr<Decoder>> decoder = Decoder::Create(
        **files, std::move(backend), {.n_kv_blocks = 32, .max_batch_tokens = 256, .max_logit_rows = 256});
    ASSERT_TRUE(decoder.ok()) << decoder.status();
    decoder_ = *std::move(decoder);
  }

  // The slot of an adapter.
  int Load(const std::string& name) {
    if (const auto found = loaded_.find(name); found != loaded_.end()) return found->second.slot;
    absl::StatusOr<std::unique_ptr<LoadedAdapter>> adapter =
        decoder_->LoadAdapter(kGatesData / "tiny-adapters" / name);
    EXPECT_TRUE(adapter.ok()) << adapter.status();
    const int slot = static_cast<int>(loaded_.size());
    testing::FillAndWait(&decoder_->adapter_slots(), slot, (*adapter)->packed);
    loaded_[name] = {slot, *std::move(adapter)};
    return slot;
  }

  // [n_tokens, vocab]
  std::vector<float> Logits(const std::vector<int32_t>& tokens, const std::vector<std::string>& members,
                            std::vector<float> weights, const Gate& gate) {
    TestSequence sequence;
    sequence.tokens = tokens;
    sequence.UseBlocks(0, static_cast<int>(tokens.size()));
    for (const std::string& member : members) sequence.adapter_slots.push_back(Load(member));
    sequence.weights = std::move(weights);
    sequence.weights.resize(members.size(), 1.0f);
    sequence.gate = gate;
    Batch batch;
    batch.Clear();
    AddToBatch(&sequence, static_cast<int>(tokens.size()), LogitRows::kAll, &batch);
    const StatusOr<std::span<const float>> run = testing::RunForLogits(decoder_.get(), &batch);
    EXPECT_TRUE(run.ok()) << run.status();
    if (!run.ok()) return {};
    return {run->begin(), run->end()};
  }

  struct Loaded {
    int slot = 0;
    std::unique_ptr<LoadedAdapter> adapter;
  };
  std::unique_ptr<Decoder> decoder_;
  std::map<std::string, Loaded> loaded_;
};

std::vector<int32_t> SomeTokens(int n) {
  std::vector<int32_t> tokens;
  for (int i = 0; i < n; ++i) tokens.push_back((i * 97 + 31) % 384);
  return tokens;
}

std::vector<double> LogProbs(std::span<const float> logits) {
  double most = -INFINITY, sum = 0;
  for (const float logit : logits) most = std::max(most, static_cast<double>(logit));
  for (const float logit : logits) sum += std::exp(static_cast<double>(logit) - most);
  std::vector<double> log_probs;
  for (const float logit : logits) log_probs.push_back(static_cast<double>(logit) - most - std::log(sum));
  return log_probs;
}

const std::vector<std::string> kAll = {"llama-all-linear", "llama-qv", "llama-top-layers", "llama-patterns"};

TEST_F(GatedDecoder, ExactModeEqualsFloat64UnderEveryGate) {
  struct Case {
    const char* name;
    std::vector<std::string> members;
    GateKind kind;
    int top_k;
  };
  // As make_gates.py has them. Members lack modules, or whole layers.
  const std::vector<Case> cases = {
      {"gateless", kAll, GateKind::kGateless, 4},
      {"noisy", kAll, GateKind::kNoisy, 2},
      {"noisy-all", {"llama-rslora", "llama-regex", "llama-qv"}, GateKind::kNoisy, 3},
      {"arrow", kAll, GateKind::kArrow, 2},
      {"arrow-all", {"llama-rslora", "llama-all-linear", "llama-patterns"}, GateKind::kArrow, 3},
      {"arrow-one", {"llama-qv", "llama-all-linear", "llama-exclude", "llama-rslora"}, GateKind::kArrow, 1}};
  const auto arrays = testing::ReadGoldenArrays(testing::SourceRoot() / "tests/golden/gates.bin");
  ASSERT_TRUE(arrays.ok()) << arrays.status();
  for (const Case& c : cases) {
    SCOPED_TRACE(c.name);
    Open("tiny-llama", testing::MakeDecoderOps(Backend::kExact));
    const auto array = [&](const char* what) { return arrays->at(std::string(c.name) + what); };
    std::vector<int32_t> tokens;
    for (const uint16_t id : array(".ids").As<uint16_t>()) tokens.push_back(id);
    const std::vector<float> logits = Logits(tokens, c.members, {}, {c.kind, c.top_k, 0x1234567890ABCDEF});
    const std::vector<uint16_t> rows = array(".rows").As<uint16_t>();
    const std::vector<float> expected = array(".logprobs").As<float>();
    const auto vocab = static_cast<size_t>(decoder_->info().vocab_size);
    ASSERT_EQ(logits.size(), tokens.size() * vocab);
    double worst = 0, squares = 0;
    for (size_t r = 0; r < rows.size(); ++r) {
      const std::vector<double> got = LogProbs(std::span(logits).subspan(rows[r] * vocab, vocab));
      for (size_t v = 0; v < vocab; ++v) {
        const double error = got[v] - static_cast<double>(expected[r * vocab + v]);
        worst = std::max(worst, std::abs(error));
        squares += error * error;
      }
    }
    // Float32 rounds logits of 16 to 10^-6, layer after layer.
    EXPECT_LT(std::sqrt(squares / static_cast<double>(expected.size())), 1e-5);
    EXPECT_LT(worst, 3e-5);
  }
}

TEST_F(GatedDecoder, AGateOverOneAdapterIsThatAdapterBitForBit) {
  for (const Backend backend : {Backend::kExact, Backend::kFast}) {
    Open("tiny-llama-q.gguf", testing::MakeDecoderOps(backend));
    const std::vector<float> alone = Logits(SomeTokens(40), {"llama-all-linear"}, {}, {});
    for (const GateKind kind : decoder_->info().gates) {
      EXPECT_EQ(Logits(SomeTokens(40), {"llama-all-linear"}, {}, {kind, 1, 5}), alone) << NameOf(kind);
    }
  }
}

TEST_F(GatedDecoder, GatelessIsABlendOfEqualWeightsBitForBit) {
  for (const Backend backend : {Backend::kExact, Backend::kFast}) {
    Open("tiny-llama-q.gguf", testing::MakeDecoderOps(backend));
    EXPECT_EQ(Logits(SomeTokens(40), kAll, {}, {GateKind::kGateless, 4}),
              Logits(SomeTokens(40), kAll, {0.25f, 0.25f, 0.25f, 0.25f}, {}));
  }
}

TEST_F(GatedDecoder, GatesDifferFromEachOtherAndNoiseFromSeedToSeed) {
  Open("tiny-llama", testing::MakeDecoderOps(Backend::kFast));
  std::vector<std::vector<float>> all;
  for (const Gate& gate :
       {Gate{GateKind::kGateless, 4}, Gate{GateKind::kNoisy, 2, 1}, Gate{GateKind::kNoisy, 2, 2},
        Gate{GateKind::kNoisy, 3, 1}, Gate{GateKind::kArrow, 2}, Gate{GateKind::kArrow, 3}}) {
    all.push_back(Logits(SomeTokens(40), kAll, {}, gate));
    for (size_t i = 0; i + 1 < all.size(); ++i) EXPECT_NE(all[i], all.back());
  }
}

TEST_F(GatedDecoder, ADeviceWithoutAGateRefusesItByName) {
  CpuBackendOptions options;
  Open("tiny-llama", std::move(CreateCpuDecoderOps(options)).value());
  TestSequence sequence;
  sequence.tokens = SomeTokens(3);
  sequence.UseBlocks(0, 3);
  sequence.adapter_slots = {Load("llama-qv")};
  sequence.weights = {1.0f};
  sequence.gate = {GateKind::kArrow, 1};
  Batch batch;
  batch.Clear();
  AddToBatch(&sequence, 3, LogitRows::kLast, &batch);
  const Status status = testing::RunForLogits(decoder_.get(), &batch).status();
  EXPECT_TRUE(absl::IsUnimplemented(status)) << status;
  EXPECT_NE(status.message().find("arrow"), absl::string_view::npos) << status;
}

// Its weights are the same at every module; others would be wanted anew by each.
TEST_F(GatedDecoder, AGpuHasTheGatelessGateAlone) {
  if (!testing::HasGpu()) GTEST_SKIP() << "no GPU is here, and this build emulates none";
  Open("tiny-llama", testing::MakeDecoderOps(Backend::kGpu));
  EXPECT_EQ(decoder_->info().gates, std::vector{GateKind::kGateless});
  EXPECT_EQ(Logits(SomeTokens(20), kAll, {}, {GateKind::kGateless, 4}),
            Logits(SomeTokens(20), kAll, {0.25f, 0.25f, 0.25f, 0.25f}, {}));
}

}  // namespace
}  // namespace coterie
