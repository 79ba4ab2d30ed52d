#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>

#include "tests/kernels/op_testing.h"
#include "tests/kernels/oracle.h"

namespace coterie::testing {
namespace {

struct LoraShape {
  int n_in;
  int n_out_q;
  int n_out_k;
  int stride() const { return n_out_q + 2 * n_out_k + 5; }
};

// An adapter with Q and V of layer 1, each of its own rank and type.
struct Adapter {
  Adapter(LoraShape shape, int rank_q, int rank_v, Random* random)
      : a_q(DType::kBF16, rank_q, shape.n_in, random),
        b_q(DType::kF32, shape.n_out_q, rank_q, random),
        a_v(DType::kF16, rank_v, shape.n_in, random),
        b_v(DType::kF16, shape.n_out_k, rank_v, random),
        scale_q(random->Normal()),
        scale_v(random->Normal()) {}

  std::vector<HostLora> Pairs(bool quantise = true) const {
    // Out of order on purpose.
    return {{a_v.host, b_v.host, scale_v, 1, LoraModule::kV, quantise},
            {a_q.host, b_q.host, scale_q, 1, LoraModule::kQ, quantise}};
  }
  // y += weight · scale · B (A x)
  void AddTo(std::span<const float> x, bool eight_bits, float weight, float* y) const {
    Add(a_q, b_q, weight * scale_q, x, eight_bits, y);
    Add(a_v, b_v, weight * scale_v, x, eight_bits, y + b_q.host.n_out + b_v.host.n_out);
  }
  static void Add(const RandomMatrix& a, const RandomMatrix& b, float factor, std::span<const float> x,
                  bool eight_bits, float* y) {
    const std::vector<float> u =
        eight_bits ? oracle::LoraFast(a.host, b.host, x) : AsStored(a.host, b.host, x);
    for (size_t n = 0; n < u.size(); ++n) y[n] = std::fma(factor, u[n], y[n]);
  }
  static std::vector<float> AsStored(const HostMatrix& a, const HostMatrix& b, std::span<const float> x) {
    std::vector<float> t, u;
    for (int64_t r = 0; r < a.n_out; ++r) t.push_back(oracle::LinearExact(a, r, x));
    for (int64_t n = 0; n < b.n_out; ++n) u.push_back(oracle::LinearExact(b, n, t));
    return u;
  }

  RandomMatrix a_q, b_q, a_v, b_v;
  float scale_q, scale_v;
};

// Sequences: base, one adapter, the same again elsewhere, another, three at once with weights, base.
struct Use {
  int adapter;
  float weight;
};
const std::vector<std::vector<Use>> kUses = {
    {}, {{0, 1.0f}}, {{1, 1.0f}},           {{0, 1.0f}}, {{2, 0.25f}, {0, 0.5f}, {1, -1.5f}},
    {}, {{0, 0.3f}}, {{1, 1.0f}, {1, 0.5f}}};

Batch MixedBatch(Random* random) {
  Batch batch;
  batch.Clear();
  for (const std::vector<Use>& seq : kUses) {
    const int n = batch.n_tokens() == 0 ? 120 : random->Int(1, 6);  // one long enough to be cut
    for (int i = 0; i < n; ++i) {
      batch.token_ids.push_back(0);
      batch.positions.push_back(i);
    }
    batch.cu_seqlens.push_back(batch.n_tokens());
    std::vector<int32_t> blocks(static_cast<size_t>(KvBlocksFor(n)));
    std::iota(blocks.begin(), blocks.end(), 0);
    AddSeat(blocks, &batch);
    for (const Use& use : seq) {
      batch.adapter_slots.push_back(use.adapter);
      batch.adapter_weights.push_back(use.weight);
    }
    batch.adapter_offsets.push_back(static_cast<int32_t>(batch.adapter_slots.size()));
  }
  return batch;
}

// Only the adapters' part of a product: the base's matrix is zero.
void AddLora(Backend& backend, const StepContext& step, int layer, std::span<const LoraTarget> targets,
             const float* x, int n_in, float* y, int y_stride) {
  const std::vector<float> zeros(static_cast<size_t>(n_in) * static_cast<size_t>(y_stride));
  HostMatrix zero;
  zero.n_out = y_stride;
  zero.n_in = n_in;
  zero.data = reinterpret_cast<const uint8_t*>(zeros.data());
  const std::unique_ptr<PackedMatrix> w = Pack(backend, {&zero, 1});
  const int rows = static_cast<const cpu::CpuStep&>(step).n_tokens();
  backend.LinearLora({&step, layer, targets}, x, rows, *w, nullptr, /*accumulate=*/true, y);
}

struct LoraCase {
  NumericsMode mode;
  LoraShape shape;
  bool quantise;    // HostLora::quantise
  bool eight_bits;  // what must come of it
  DType base;
};

void CheckMixedBatch(const LoraCase& c) {
  Random random;
  const LoraShape shape = c.shape;
  const int stride = shape.stride();
  const LoraTarget qkv[] = {
      {LoraModule::kQ, 0}, {LoraModule::kK, shape.n_out_q}, {LoraModule::kV, shape.n_out_q + shape.n_out_k}};
  const Adapter adapters[] = {
      {shape, 16, 8, &random}, {shape, 1, 20, &random}, {shape, 8, 33, &random}, {shape, 32, 70, &random}};
  Batch batch = MixedBatch(&random);
  // The long one gets an adapter, too: as many as all threads have work for.
  batch.adapter_slots.insert(batch.adapter_slots.begin(), 3);
  batch.adapter_weights.insert(batch.adapter_weights.begin(), 1.0f);
  std::for_each(batch.adapter_offsets.begin() + 1, batch.adapter_offsets.end(), [](int32_t& o) { ++o; });
  const size_t n_tokens = static_cast<size_t>(batch.n_tokens());
  const size_t n_in = static_cast<size_t>(shape.n_in);
  const std::vector<float> x = random.Normals(n_tokens * n_in);
  const std::vector<float> before = random.Normals(n_tokens * static_cast<size_t>(stride));
  std::vector<float> expected = before;
  for (int32_t s = 0; s < batch.n_seqs(); ++s) {
    for (int32_t t = batch.cu_seqlens[s]; t < batch.cu_seqlens[s + 1]; ++t) {
      for (int32_t use = batch.adapter_offsets[s]; use < batch.adapter_offsets[s + 1]; ++use) {
        adapters[batch.adapter_slots[use]].AddTo({x.data() + t * shape.n_in, n_in}, c.eight_bits,
                                                 batch.adapter_weights[use], expected.data() + t * stride);
      }
    }
  }
  const RandomMatrix base(c.base, stride, shape.n_in, &random);
  ForEveryBackend(c.mode, [&](Backend& backend) {
    cpu::CpuAdapterSlots slots(static_cast<int>(std::size(adapters)));
    for (int i = 0; i < slots.n_slots(); ++i) {
      auto packed = std::move(backend.PackAdapter(adapters[i].Pairs(c.quantise))).value();
      EXPECT_GT(packed->bytes(), 0u);
      slots.Fill(i, std::move(packed));
    }
    std::unique_ptr<StepContext> step =
        std::move(backend.MakeStepContext({.max_tokens = 256, .max_seqs = 16, .max_logit_rows = 16})).value();
    backend.BeginStep(step.get(), batch, TestSeats(), slots);
    std::vector<float> y = before;
    AddLora(backend, *step, 1, qkv, x.data(), shape.n_in, y.data(), stride);
    ASSERT_TRUE(SameBits(y, expected));
    // A layer and a module that no adapter changes.
    AddLora(backend, *step, 0, qkv, x.data(), shape.n_in, y.data(), stride);
    const LoraTarget down[] = {{LoraModule::kDown, 0}};
    AddLora(backend, *step, 1, down, x.data(), shape.n_in, y.data(), stride);
    ASSERT_TRUE(SameBits(y, expected));
    // Together with the base's product, and alone after it.
    for (const bool accumulate : {false, true}) {
      const std::unique_ptr<PackedMatrix> w = std::move(backend.PackMatrix({&base.host, 1})).value();
      std::vector<float> apart = before;
      backend.Linear(x.data(), static_cast<int>(n_tokens), *w, nullptr, accumulate, apart.data());
      AddLora(backend, *step, 1, qkv, x.data(), shape.n_in, apart.data(), stride);
      std::vector<float> together = before;
      backend.LinearLora({step.get(), 1, qkv}, x.data(), static_cast<int>(n_tokens), *w, nullptr, accumulate,
                         together.data());
      ASSERT_TRUE(SameBits(together, apart));
      // The same of norms made on the way.
      const std::unique_ptr<DeviceBuffer> norm = Upload(backend, {x.data(), n_in});
      const int rows = static_cast<int>(n_tokens);
      std::vector<float> normed(x.size());
      backend.RmsNorm(x.data(), *norm, 1e-5f, rows, shape.n_in, normed.data());
      apart = before;
      backend.Linear(normed.data(), rows, *w, nullptr, accumulate, apart.data());
      AddLora(backend, *step, 1, qkv, normed.data(), shape.n_in, apart.data(), stride);
      normed.assign(x.size(), NAN);
      together = before;
      backend.LinearLora({step.get(), 1, qkv}, LinearInput::RmsNorm(x.data(), *norm, 1e-5f, normed.data()),
                         rows, *w, nullptr, accumulate, together.data());
      ASSERT_TRUE(SameBits(together, apart));
    }
    // A row is the same alone: the last of every sequence.
    for (int32_t s = 0; s < batch.n_seqs(); ++s) {
      Batch alone;
      alone.Clear();
      const int32_t t = batch.cu_seqlens[s + 1] - 1;
      alone.token_ids = {0};
      alone.positions = {0};
      alone.cu_seqlens = {0, 1};
      AddSeat(std::vector{0}, &alone);
      for (int32_t use = batch.adapter_offsets[s]; use < batch.adapter_offsets[s + 1]; ++use) {
        alone.adapter_slots.push_back(batch.adapter_slots[use]);
        alone.adapter_weights.push_back(batch.adapter_weights[use]);
      }
      alone.adapter_offsets = {0, static_cast<int32_t>(alone.adapter_slots.size())};
      backend.BeginStep(step.get(), alone, TestSeats(), slots);
      std::vector<float> row(before.begin() + t * stride, before.begin() + (t + 1) * stride);
      AddLora(backend, *step, 1, qkv, x.data() + t * shape.n_in, shape.n_in, row.data(), stride);
      ASSERT_TRUE(SameBits(
          row, std::span(expected).subspan(static_cast<size_t>(t * stride), static_cast<size_t>(stride))));
    }
  });
}

constexpr LoraShape kAligned = {96, 48,
                                32};  // targets begin at whole panels: added range by range beside the base
constexpr LoraShape kUnaligned = {64, 40, 24};
constexpr LoraShape kNoBlocks = {72, 40, 24};

TEST(Lora, MixedBatchAsStoredEqualsTheOracleRowByRow) {
  CheckMixedBatch({NumericsMode::kExact, kUnaligned, true, false, DType::kQ4_1});
  CheckMixedBatch({NumericsMode::kExact, kAligned, true, false, DType::kBF16});
}

TEST(Lora, MixedBatchInEightBitsEqualsTheOracleRowByRow) {
  CheckMixedBatch({NumericsMode::kFast, kAligned, true, true, DType::kQ4_1});
  CheckMixedBatch({NumericsMode::kFast, kUnaligned, true, true, DType::kQ8_0});
  CheckMixedBatch({NumericsMode::kFast, kAligned, true, true, DType::kBF16});
}

TEST(Lora, FastModeKeepsAPairAsStoredWhereTheBaseRoundsNoActivations) {
  CheckMixedBatch({NumericsMode::kFast, kAligned, false, false, DType::kBF16});
  CheckMixedBatch({NumericsMode::kFast, kAligned, false, false, DType::kQ4_0});
  CheckMixedBatch({NumericsMode::kFast, kNoBlocks, true, false, DType::kF32});
}

TEST(Lora, EightBitsPadNothingAtCommonRanks) {
  Random random;
  std::unique_ptr<Backend> backend = std::move(Backend::Create({})).value();
  for (const int rank : {8, 16, 24, 32, 64}) {
    const RandomMatrix a(DType::kBF16, rank, 576, &random);
    const RandomMatrix b(DType::kBF16, 192, rank, &random);
    const std::vector<HostLora> pair = {{a.host, b.host, 1.0f, 0, LoraModule::kO}};
    const size_t n_scales =
        static_cast<size_t>(rank) * 576 / 32 + 192 * static_cast<size_t>((rank + 31) / 32);
    EXPECT_EQ(std::move(backend->PackAdapter(pair)).value()->bytes(),
              static_cast<size_t>(rank) * (576 + 192) + 2 * n_scales);
  }
}

TEST(Lora, EightBitsTakeWeightsOfEverySize) {
  // Tiny, huge and zero weights: bfloat16 scales reach as far as float32.
  Random random;
  for (const float size : {0.0f, 1e-35f, 1e-12f, 1e8f}) {
    RandomMatrix a(DType::kF32, 8, 64, &random);
    RandomMatrix b(DType::kF32, 16, 8, &random);
    for (size_t i = 0; i < a.bytes.size(); i += 4) {
      float v;
      std::memcpy(&v, a.bytes.data() + i, 4);
      v *= size;
      std::memcpy(a.bytes.data() + i, &v, 4);
    }
    const std::vector<HostLora> pair = {{a.host, b.host, 1.0f, 0, LoraModule::kO}};
    const std::vector<float> x = random.Normals(64);
    const std::vector<float> u = oracle::LoraFast(a.host, b.host, x);
    const std::vector<float> exact = Adapter::AsStored(a.host, b.host, x);
    for (size_t n = 0; n < u.size(); ++n) {
      EXPECT_TRUE(std::isfinite(u[n]));
      EXPECT_NEAR(u[n], size == 1e-35f ? 0.0f : exact[n], 0.03f * size);  // below 2^-100 all is zero
    }
    Batch batch;
    batch.Clear();
    batch.token_ids = {0};
    batch.positions = {0};
    batch.cu_seqlens = {0, 1};
    AddSeat(std::vector{0}, &batch);
    batch.adapter_offsets = {0, 1};
    batch.adapter_slots = {0};
    batch.adapter_weights = {1.0f};
    ForEveryBackend(NumericsMode::kFast, [&](Backend& backend) {
      cpu::CpuAdapterSlots slots(1);
      slots.Fill(0, std::move(backend.PackAdapter(pair)).value());
      std::unique_ptr<StepContext> step =
          std::move(backend.MakeStepContext({.max_tokens = 1, .max_seqs = 1, .max_logit_rows = 1})).value();
      backend.BeginStep(step.get(), batch, TestSeats(), slots);
      std::vector<float> y(16, 0.0f);
      const LoraTarget o[] = {{LoraModule::kO, 0}};
      AddLora(backend, *step, 0, o, x.data(), 64, y.data(), 16);
      std::vector<float> expected;
      for (const float v : u) expected.push_back(std::fma(1.0f, v, 0.0f));
      ASSERT_TRUE(SameBits(y, expected));
    });
  }
}

TEST(Lora, RefusesPairsThatDoNotFitTogether) {
  Random random;
  std::unique_ptr<Backend> backend = std::move(Backend::Create({})).value();
  const Adapter adapter(kAligned, 4, 4, &random);
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
