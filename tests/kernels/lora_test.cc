#include <gtest/gtest.h>

#include <cmath>

#include "tests/kernels/op_testing.h"
#include "tests/kernels/oracle.h"

namespace coterie::testing {
namespace {

constexpr int kIn = 72;
constexpr int kOutQ = 40;
constexpr int kOutK = 24;
constexpr int kStride = kOutQ + 2 * kOutK + 5;

// An adapter with Q and V of layer 1, each of its own rank and type.
struct Adapter {
  Adapter(int rank_q, int rank_v, Random* random)
      : a_q(DType::kBF16, rank_q, kIn, random),
        b_q(DType::kF32, kOutQ, rank_q, random),
        a_v(DType::kF16, rank_v, kIn, random),
        b_v(DType::kF16, kOutK, rank_v, random),
        scale_q(random->Normal()),
        scale_v(random->Normal()) {}

  std::vector<HostLora> Pairs() const {
    // Out of order on purpose.
    return {{a_v.host, b_v.host, scale_v, 1, LoraModule::kV},
            {a_q.host, b_q.host, scale_q, 1, LoraModule::kQ}};
  }
  // y += weight · scale · B (A x)
  void AddTo(std::span<const float> x, float weight, float* y) const {
    Add(a_q, b_q, weight * scale_q, x, y);
    Add(a_v, b_v, weight * scale_v, x, y + kOutQ + kOutK);
  }
  static void Add(const RandomMatrix& a, const RandomMatrix& b, float factor, std::span<const float> x,
                  float* y) {
    std::vector<float> t;
    for (int64_t r = 0; r < a.host.n_out; ++r) t.push_back(oracle::LinearExact(a.host, r, x));
    for (int64_t n = 0; n < b.host.n_out; ++n)
      y[n] = std::fma(factor, oracle::LinearExact(b.host, n, t), y[n]);
  }

  RandomMatrix a_q, b_q, a_v, b_v;
  float scale_q, scale_v;
};

constexpr LoraTarget kQkv[] = {{LoraModule::kQ, 0}, {LoraModule::kK, kOutQ}, {LoraModule::kV, kOutQ + kOutK}};

TEST(Lora, MixedBatchEqualsTheOracleRowByRow) {
  Random random;
  const Adapter adapters[] = {{16, 8, &random}, {1, 3, &random}, {8, 33, &random}};
  // Sequences: base, one adapter, the same again elsewhere, another, three at once with weights, base.
  struct Use {
    int adapter;
    float weight;
  };
  const std::vector<std::vector<Use>> uses = {
      {}, {{0, 1.0f}}, {{1, 1.0f}},           {{0, 1.0f}}, {{2, 0.25f}, {0, 0.5f}, {1, -1.5f}},
      {}, {{0, 0.3f}}, {{1, 1.0f}, {1, 0.5f}}};
  Batch batch;
  batch.Clear();
  for (const std::vector<Use>& seq : uses) {
    const int n = batch.n_tokens() == 0 ? 70 : random.Int(1, 6);  // one long enough to be cut
    for (int i = 0; i < n; ++i) {
      batch.token_ids.push_back(0);
      batch.positions.push_back(i);
    }
    batch.cu_seqlens.push_back(batch.n_tokens());
    for (int i = 0; i < n; i += kKvBlockTokens) batch.block_ids.push_back(i / kKvBlockTokens);
    batch.block_offsets.push_back(static_cast<int32_t>(batch.block_ids.size()));
    for (const Use& use : seq) {
      batch.adapter_slots.push_back(use.adapter);
      batch.adapter_weights.push_back(use.weight);
    }
    batch.adapter_offsets.push_back(static_cast<int32_t>(batch.adapter_slots.size()));
  }
  const size_t n_tokens = static_cast<size_t>(batch.n_tokens());
  const std::vector<float> x = random.Normals(n_tokens * kIn);
  const std::vector<float> before = random.Normals(n_tokens * kStride);
  std::vector<float> expected = before;
  for (size_t s = 0; s < uses.size(); ++s) {
    for (int32_t t = batch.cu_seqlens[s]; t < batch.cu_seqlens[s + 1]; ++t) {
      for (const Use& use : uses[s]) {
        adapters[use.adapter].AddTo({x.data() + t * kIn, kIn}, use.weight, expected.data() + t * kStride);
      }
    }
  }
  const RandomMatrix base(DType::kBF16, kStride, kIn, &random);
  for (NumericsMode mode : {NumericsMode::kExact, NumericsMode::kFast}) {
    ForEveryBackend(mode, [&](Backend& backend) {
      std::vector<std::unique_ptr<PackedAdapter>> packed;
      batch.adapters.clear();
      for (const Adapter& adapter : adapters) {
        packed.push_back(std::move(backend.PackAdapter(adapter.Pairs())).value());
        batch.adapters.push_back(packed.back().get());
        EXPECT_GT(packed.back()->bytes(), 0u);
      }
      std::unique_ptr<StepContext> step = std::move(backend.MakeStepContext({128, 16, 32, 16})).value();
      backend.BeginStep(step.get(), batch);
      std::vector<float> y = before;
      backend.Lora(*step, 1, kQkv, x.data(), kIn, y.data(), kStride);
      ASSERT_TRUE(SameBits(y, expected));
      // A layer and a module that no adapter changes.
      backend.Lora(*step, 0, kQkv, x.data(), kIn, y.data(), kStride);
      const LoraTarget down[] = {{LoraModule::kDown, 0}};
      backend.Lora(*step, 1, down, x.data(), kIn, y.data(), kStride);
      ASSERT_TRUE(SameBits(y, expected));
      // Together with the base's product, and alone after it.
      for (const bool accumulate : {false, true}) {
        const std::unique_ptr<PackedMatrix> w = std::move(backend.PackMatrix({&base.host, 1})).value();
        std::vector<float> apart = before;
        backend.Linear(x.data(), static_cast<int>(n_tokens), *w, nullptr, accumulate, apart.data());
        backend.Lora(*step, 1, kQkv, x.data(), kIn, apart.data(), kStride);
        std::vector<float> together = before;
        backend.LinearLora({step.get(), 1, kQkv}, x.data(), static_cast<int>(n_tokens), *w, nullptr,
                           accumulate, together.data());
        ASSERT_TRUE(SameBits(together, apart));
      }
    });
  }
}

TEST(Lora, RefusesPairsThatDoNotFitTogether) {
  Random random;
  std::unique_ptr<Backend> backend = std::move(CreateCpuBackend({})).value();
  const Adapter adapter(4, 4, &random);
  std::vector<HostLora> twice = adapter.Pairs();
  twice.push_back(twice.front());
  EXPECT_EQ(backend->PackAdapter(twice).status().code(), absl::StatusCode::kInvalidArgument);
  std::vector<HostLora> ranks = adapter.Pairs();
  ranks[0].a.n_out = 3;
  EXPECT_EQ(backend->PackAdapter(ranks).status().code(), absl::StatusCode::kInvalidArgument);
  RandomMatrix quantised(DType::kQ8_0, 4, 64, &random);
  std::vector<HostLora> types = adapter.Pairs();
  types[0].a = quantised.host;
  EXPECT_EQ(backend->PackAdapter(types).status().code(), absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace coterie::testing
