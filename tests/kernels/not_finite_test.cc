// What is no number stays visible: whatever op a value of NaN, of infinity, or one whose products may
// overflow goes through, what comes out says so in every place that depends on it, and rows beside it keep
// their bits.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "tests/kernels/op_testing.h"

namespace coterie::testing {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kBad[] = {NAN, kInfinity, -kInfinity, 1e30f, -3e38f};

bool AllNan(std::span<const float> values) {
  return std::all_of(values.begin(), values.end(), [](float v) { return std::isnan(v); });
}
bool NoneFinite(std::span<const float> values) {
  return std::none_of(values.begin(), values.end(), [](float v) { return std::isfinite(v); });
}
std::span<float> RowOf(std::vector<float>& x, int row, int d) {
  return {x.data() + static_cast<int64_t>(row) * d, static_cast<size_t>(d)};
}

// `op` maps rows [rows, n_in] to rows [rows, n_out]. Row 1 of three is spoilt at random places, one after
// another.
void ExpectRowSpoilt(int n_in, int n_out, Random* random,
                     const std::function<std::vector<float>(Backend&, std::vector<float>)>& op,
                     NumericsMode mode) {
  std::vector<float> x = random->Normals(static_cast<size_t>(3 * n_in));
  for (const float bad : kBad) {
    std::vector<float> spoilt = x;
    const int place = random->Int(0, n_in - 1);
    RowOf(spoilt, 1, n_in)[static_cast<size_t>(place)] = bad;
    ForEveryBackend(mode, [&](Backend& backend) {
      std::vector<float> sound = op(backend, x);
      std::vector<float> y = op(backend, spoilt);
      ASSERT_TRUE(AllNan(RowOf(y, 1, n_out)))
          << bad << " at " << place << " of " << n_in << ", " << backend.device_name();
      ASSERT_TRUE(SameBits(RowOf(y, 0, n_out), RowOf(sound, 0, n_out)));
      ASSERT_TRUE(SameBits(RowOf(y, 2, n_out), RowOf(sound, 2, n_out)));
    });
  }
}

class NotFinite : public ::testing::TestWithParam<NumericsMode> {};

TEST_P(NotFinite, NormsAndActivationsSpoilTheWholeRow) {
  Random random;
  for (const int d : {16, 40, 576}) {
    const std::vector<float> weight = random.Normals(static_cast<size_t>(d));
    const std::vector<float> bias = random.Normals(static_cast<size_t>(d));
    ExpectRowSpoilt(
        d, d, &random,
        [&](Backend& backend, std::vector<float> x) {
          backend.RmsNorm(x.data(), *Upload(backend, weight), 1e-5f, 3, d, x.data());
          return x;
        },
        GetParam());
    ExpectRowSpoilt(
        d, d, &random,
        [&](Backend& backend, std::vector<float> x) {
          std::vector<float> y(x.size(), 1.0f);
          backend.AddRmsNorm(x.data(), *Upload(backend, weight), 1e-5f, 3, d, y.data());
          return y;
        },
        GetParam());
    ExpectRowSpoilt(
        d, d, &random,
        [&](Backend& backend, std::vector<float> x) {
          backend.LayerNorm(x.data(), nullptr, *Upload(backend, weight), *Upload(backend, bias), 1e-12f, 3, d,
                            x.data());
          return x;
        },
        GetParam());
    ExpectRowSpoilt(
        d, d, &random,
        [&](Backend& backend, std::vector<float> x) {
          backend.Gelu(x.data(), 3, d);
          return x;
        },
        GetParam());
    for (const auto gated : {&Backend::SwiGlu, &Backend::GeGlu}) {
      ExpectRowSpoilt(
          2 * d, d, &random,
          [&](Backend& backend, std::vector<float> x) {
            // A gate far below zero makes a zero of any finite value beside it: not of these.
            std::vector<float> h(static_cast<size_t>(3 * d));
            for (int i = 0; i < d; ++i) {
              float& gate = RowOf(x, 1, 2 * d)[static_cast<size_t>(i)];
              float& up = RowOf(x, 1, 2 * d)[static_cast<size_t>(d + i)];
              if (std::fabs(gate) > 1e20f) up = 1.0f, gate = std::fabs(gate);
              if (std::fabs(up) > 1e20f) gate = 1.0f;
            }
            (backend.*gated)(x.data(), 3, d, h.data());
            return h;
          },
          GetParam());
    }
  }
}

// Rows as the ops above leave them: all NaN.
TEST_P(NotFinite, ProductsOfASpoiltRowAreNoNumbersInAnyType) {
  Random random;
  constexpr int kInputs = 256;
  for (const DType dtype : kAllDTypes) {
    const RandomMatrix matrix(dtype, 70, kInputs, &random);
    for (const int rows : {3, 40}) {
      std::vector<float> x = random.Normals(static_cast<size_t>(rows * kInputs));
      std::vector<float> spoilt = x;
      std::fill_n(RowOf(spoilt, 1, kInputs).begin(), kInputs, NAN);
      ForEveryBackend(GetParam(), [&](Backend& backend) {
        const std::unique_ptr<PackedMatrix> packed = Pack(backend, {&matrix.host, 1});
        std::vector<float> sound(static_cast<size_t>(rows * 70)), y(sound.size());
        backend.Linear(x.data(), rows, *packed, nullptr, false, sound.data());
        backend.Linear(spoilt.data(), rows, *packed, nullptr, false, y.data());
        ASSERT_TRUE(AllNan(RowOf(y, 1, 70))) << DTypeName(dtype) << " " << backend.device_name();
        ASSERT_TRUE(SameBits(RowOf(y, 0, 70), RowOf(sound, 0, 70)));
        ASSERT_TRUE(SameBits({y.data() + 140, y.size() - 140}, {sound.data() + 140, sound.size() - 140}));
        const std::vector<int32_t> keep(static_cast<size_t>(rows), 3);
        std::vector<cpu::TopLogit> top(keep.size() * 3);
        backend.LinearTop(spoilt.data(), rows, *packed, keep, nullptr, top.data());
        for (int i = 0; i < 3; ++i) ASSERT_EQ(top[static_cast<size_t>(3 + i)].id, -1);
        ASSERT_GE(top[0].id, 0);
      });
    }
  }
}

// A x may overflow in an adapter whose weights are finite.
TEST_P(NotFinite, AnAdapterThatOverflowsInBetweenIsSeenInItsOutputs) {
  Random random;
  constexpr int kInputs = 64, kOutputs = 48;
  const RandomMatrix base(DType::kQ8_0, kOutputs, kInputs, &random);
  for (const int rank : {4, 8, 16, 40}) {
    for (const int bad_rank : {0, rank - 1}) {
      std::vector<float> a = random.Normals(static_cast<size_t>(rank * kInputs));
      const std::vector<float> b = random.Normals(static_cast<size_t>(kOutputs * rank));
      for (int k = 0; k < kInputs; ++k) {  // to infinity, and for the first rank then to NaN
        a[static_cast<size_t>(bad_rank * kInputs + k)] = bad_rank == 0 && k >= 32 ? -3e38f : 3e38f;
      }
      const std::vector<float> x(2 * kInputs, 30.0f);
      HostLora pair;
      pair.a = {.dtype = DType::kF32,
                .n_out = rank,
                .n_in = kInputs,
                .data = reinterpret_cast<const uint8_t*>(a.data()),
                .row_order = {}};
      pair.b = {.dtype = DType::kF32,
                .n_out = kOutputs,
                .n_in = rank,
                .data = reinterpret_cast<const uint8_t*>(b.data()),
                .row_order = {}};
      pair.scale = 1;
      pair.module = LoraModule::kO;
      ForEveryBackend(GetParam(), [&](Backend& backend) {
        const std::unique_ptr<PackedMatrix> packed = Pack(backend, {&base.host, 1});
        cpu::CpuAdapterSlots slots(1);
        slots.Fill(0, std::move(backend.PackAdapter({&pair, 1})).value());
        // Two sequences of one token, the second of the base alone.
        Batch batch;
        batch.token_ids = {0, 0};
        batch.positions = {0, 0};
        batch.cu_seqlens = {0, 1, 2};
        AddSeat(std::vector{0}, &batch);
        AddSeat(std::vector{1}, &batch);
        batch.adapter_offsets = {0, 1, 1};
        batch.adapter_slots = {0};
        batch.adapter_weights = {1.0f};
        const std::unique_ptr<StepContext> step =
            std::move(backend.MakeStepContext({.max_tokens = 2, .max_seqs = 2, .max_logit_rows = 2})).value();
        backend.BeginStep(step.get(), batch, TestSeats(), slots);
        const LoraTarget target = {LoraModule::kO, 0};
        std::vector<float> y(2 * kOutputs), base_only(2 * kOutputs);
        backend.LinearLora({step.get(), 0, {&target, 1}}, x.data(), 2, *packed, nullptr, false, y.data());
        backend.Linear(x.data(), 2, *packed, nullptr, false, base_only.data());
        ASSERT_TRUE(NoneFinite(RowOf(y, 0, kOutputs)))
            << "rank " << rank << " at " << bad_rank << " " << backend.device_name();
        ASSERT_TRUE(SameBits(RowOf(y, 1, kOutputs), RowOf(base_only, 1, kOutputs)));
      });
    }
  }
}

// Token 3 of ten has a bad value in its query, key or value: no later token may pass it over, in any later
// step, and neither its own nor their other heads come out as numbers. Tokens before it and another sequence
// are untouched.
TEST_P(NotFinite, ABadTokenIsSeenByEveryLaterOneOfItsSequence) {
  Random random;
  for (const int head_dim : {16, 24, 64, 13 * 2}) {
    constexpr int kHeads = 4, kKvHeads = 2, kTokens = 10;
    const int width = (kHeads + 2 * kKvHeads) * head_dim;
    const int out_width = kHeads * head_dim;
    for (const float bad : kBad) {
      const int place = random.Int(0, width - 1);
      std::vector<float> qkv = random.Normals(static_cast<size_t>(2 * kTokens * width));
      std::vector<float> spoilt = qkv;
      spoilt[static_cast<size_t>(3 * width + place)] = bad;
      ForEveryBackend(GetParam(), [&](Backend& backend) {
        const std::vector<float> cosines(static_cast<size_t>(32 * head_dim / 2), 0.6f);
        const std::vector<float> sines(cosines.size(), 0.8f);
        RopeTable table{Upload(backend, cosines), Upload(backend, sines), head_dim / 2 * 2};
        const std::unique_ptr<KvCache> kv =
            std::move(backend.MakeKvCache({1, 2, kKvHeads, head_dim})).value();
        const std::unique_ptr<StepContext> step =
            std::move(backend.MakeStepContext({.max_tokens = 64, .max_seqs = 2, .max_logit_rows = 64}))
                .value();
        const auto run = [&](std::vector<float> rows) {
          Batch batch;
          for (int s = 0; s < 2; ++s) {
            for (int t = 0; t < kTokens; ++t) {
              batch.token_ids.push_back(0);
              batch.positions.push_back(t);
            }
          }
          batch.cu_seqlens = {0, kTokens, 2 * kTokens};
          AddSeat(std::vector{0}, &batch);
          AddSeat(std::vector{1}, &batch);
          batch.adapter_offsets = {0, 0, 0};
          backend.BeginStep(step.get(), batch, TestSeats(), NoSlots());
          backend.RopeAndKvWrite(*step, 0, kHeads, nullptr, nullptr, 0, table, rows.data(), kv.get());
          std::vector<float> out(static_cast<size_t>(2 * kTokens * out_width));
          backend.PagedAttention(*step, 0, kHeads, 0.25f, 0, rows.data(), *kv, out.data());
          return out;
        };
        std::vector<float> sound = run(qkv);
        std::vector<float> out = run(spoilt);
        for (int token = 0; token < 2 * kTokens; ++token) {
          if (token >= 3 && token < kTokens) {
            ASSERT_TRUE(AllNan(RowOf(out, token, out_width)))
                << "token " << token << ", " << bad << " at " << place << ", head_dim " << head_dim << " "
                << backend.device_name();
          } else {
            ASSERT_TRUE(SameBits(RowOf(out, token, out_width), RowOf(sound, token, out_width))) << token;
          }
        }
        // A later step reads the cache alone.
        run(spoilt);
        Batch later;
        later.token_ids = {0};
        later.positions = {kTokens};
        later.cu_seqlens = {0, 1};
        AddSeat(std::vector{0}, &later);
        later.adapter_offsets = {0, 0};
        backend.BeginStep(step.get(), later, TestSeats(), NoSlots());
        std::vector<float> row(qkv.begin(), qkv.begin() + width);
        backend.RopeAndKvWrite(*step, 0, kHeads, nullptr, nullptr, 0, table, row.data(), kv.get());
        std::vector<float> next(static_cast<size_t>(out_width));
        backend.PagedAttention(*step, 0, kHeads, 0.25f, 0, row.data(), *kv, next.data());
        ASSERT_TRUE(AllNan(next));
      });
    }
  }
}

TEST_P(NotFinite, ATextWithABadRowHasNoFiniteEmbedding) {
  Random random;
  constexpr int kHeads = 3, kHeadDim = 32, kWidth = kHeads * kHeadDim;
  const std::vector<int32_t> cu_seqlens = {0, 5, 12, 14};
  for (const float bad : kBad) {
    std::vector<float> qkv = random.Normals(static_cast<size_t>(14 * 3 * kWidth));
    std::vector<float> spoilt = qkv;
    spoilt[static_cast<size_t>(7 * 3 * kWidth + random.Int(0, 3 * kWidth - 1))] = bad;
    ForEveryBackend(GetParam(), [&](Backend& backend) {
      const auto run = [&](const std::vector<float>& rows) {
        std::vector<float> out(static_cast<size_t>(14 * kWidth));
        backend.FullAttention(rows.data(), cu_seqlens, kHeads, kHeadDim, out.data());
        std::vector<float> pooled(static_cast<size_t>(3 * kWidth));
        backend.MeanPoolNormalize(out.data(), cu_seqlens, kWidth, pooled.data());
        return pooled;
      };
      std::vector<float> sound = run(qkv);
      std::vector<float> pooled = run(spoilt);
      ASSERT_TRUE(AllNan(RowOf(pooled, 1, kWidth))) << bad;
      ASSERT_TRUE(SameBits(RowOf(pooled, 0, kWidth), RowOf(sound, 0, kWidth)));
      ASSERT_TRUE(SameBits(RowOf(pooled, 2, kWidth), RowOf(sound, 2, kWidth)));
    });
  }
}

INSTANTIATE_TEST_SUITE_P(Modes, NotFinite, ::testing::Values(NumericsMode::kExact, NumericsMode::kFast),
                         [](const auto& mode) {
                           return mode.param == NumericsMode::kExact ? "Exact" : "Fast";
                         });

}  // namespace
}  // namespace coterie::testing
