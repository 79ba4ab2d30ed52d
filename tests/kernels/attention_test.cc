#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "tests/kernels/op_testing.h"
#include "tests/kernels/oracle.h"

namespace coterie::testing {
namespace {

// A model's attention over sequences whose K and V come in steps.
struct Heads {
  int n_heads;
  int n_kv_heads;
  int head_dim;
  bool qk_norm;
  int window;
  int width() const { return (n_heads + 2 * n_kv_heads) * head_dim; }
};

struct Sequence {
  std::vector<float> qkv;  // [n_tokens, width]
  int n_tokens;
  std::vector<int32_t> blocks;
};

class Attention {
 public:
  Attention(const Heads& heads, DType kv_dtype, int n_positions, Random* random)
      : heads_(heads), kv_dtype_(kv_dtype), half_(heads.head_dim / 2) {
    for (int i = 0; i < n_positions * half_; ++i) {
      const float angle = random->Normal() * 3.0f;
      cos_.push_back(std::cos(angle));
      sin_.push_back(std::sin(angle));
    }
    if (heads.qk_norm) {
      q_norm_ = random->Normals(static_cast<size_t>(heads.head_dim));
      k_norm_ = random->Normals(static_cast<size_t>(heads.head_dim));
    }
  }

  float scale() const { return 1.0f / std::sqrt(static_cast<float>(heads_.head_dim)); }

  // [n_tokens, n_heads · head_dim] by the oracle.
  std::vector<float> Expected(const Sequence& s) const {
    const size_t hd = static_cast<size_t>(heads_.head_dim);
    const auto head_of = [&](int t, int head) {
      const float* p = s.qkv.data() + t * heads_.width() + head * heads_.head_dim;
      return std::vector<float>(p, p + hd);
    };
    const auto rotated = [&](int t, int head, const std::vector<float>& norm) {
      std::vector<float> x = head_of(t, head);
      if (!norm.empty()) x = oracle::RmsNorm(x, norm, 1e-6f);
      const size_t at = static_cast<size_t>(t * half_);
      oracle::Rope(x, {cos_.data() + at, static_cast<size_t>(half_)},
                   {sin_.data() + at, static_cast<size_t>(half_)});
      return x;
    };
    const auto attend = kv_dtype_ == DType::kBF16 ? oracle::AttendBf16 : oracle::Attend;
    std::vector<float> out(static_cast<size_t>(s.n_tokens * heads_.n_heads) * hd);
    for (int kv_head = 0; kv_head < heads_.n_kv_heads; ++kv_head) {
      std::vector<std::vector<float>> keys, values;
      for (int t = 0; t < s.n_tokens; ++t) {
        keys.push_back(rotated(t, heads_.n_heads + kv_head, k_norm_));
        values.push_back(head_of(t, heads_.n_heads + heads_.n_kv_heads + kv_head));
        for (float& v : keys.back()) v = oracle::RoundKv(kv_dtype_, v);
        for (float& v : values.back()) v = oracle::RoundKv(kv_dtype_, v);
      }
      const int group = heads_.n_heads / heads_.n_kv_heads;
      for (int head = kv_head * group; head < (kv_head + 1) * group; ++head) {
        for (int t = 0; t < s.n_tokens; ++t) {
          const int lo = heads_.window > 0 ? std::max(0, t - heads_.window + 1) : 0;
          const std::vector<float> o = attend(rotated(t, head, q_norm_), keys, values, lo, t + 1, scale());
          std::copy(o.begin(), o.end(),
                    out.begin() + static_cast<int64_t>(t * heads_.n_heads + head) * heads_.head_dim);
        }
      }
    }
    return out;
  }

  struct Device {
    RopeTable rope;
    std::unique_ptr<DeviceBuffer> q_norm, k_norm;
    std::unique_ptr<KvCache> kv;
    std::unique_ptr<StepContext> step;
  };
  Device Prepare(Backend& backend, int n_blocks) const {
    Device device;
    device.rope.cos = Upload(backend, cos_);
    device.rope.sin = Upload(backend, sin_);
    device.rope.rotary_dim = 2 * half_;
    if (heads_.qk_norm) {
      device.q_norm = Upload(backend, q_norm_);
      device.k_norm = Upload(backend, k_norm_);
    }
    device.kv = std::move(backend.MakeKvCache({2, n_blocks, heads_.n_kv_heads, heads_.head_dim})).value();
    device.step =
        std::move(backend.MakeStepContext({.max_tokens = 1024, .max_seqs = 64, .max_logit_rows = 64}))
            .value();
    return device;
  }

  // Runs tokens [from, to) of each sequence as one step; writes rows of `out[s]`.
  void Step(Backend& backend, const Device& device, const std::vector<const Sequence*>& sequences,
            const std::vector<std::pair<int, int>>& ranges, std::vector<std::vector<float>>* out) const {
    Batch batch;
    batch.Clear();
    std::vector<float> qkv;
    for (size_t i = 0; i < sequences.size(); ++i) {
      const Sequence& s = *sequences[i];
      for (int t = ranges[i].first; t < ranges[i].second; ++t) {
        batch.token_ids.push_back(0);
        batch.positions.push_back(t);
        qkv.insert(qkv.end(), s.qkv.begin() + static_cast<int64_t>(t) * heads_.width(),
                   s.qkv.begin() + static_cast<int64_t>(t + 1) * heads_.width());
      }
      batch.cu_seqlens.push_back(batch.n_tokens());
      AddSeat(std::span(s.blocks).first(static_cast<size_t>(KvBlocksFor(ranges[i].second))), &batch);
      batch.adapter_offsets.push_back(0);
    }
    backend.BeginStep(device.step.get(), batch, TestSeats(), NoSlots());
    const int layer = 1;
    backend.RopeAndKvWrite(*device.step, layer, heads_.n_heads, device.q_norm.get(), device.k_norm.get(),
                           1e-6f, device.rope, qkv.data(), device.kv.get());
    const int64_t row = heads_.n_heads * heads_.head_dim;
    std::vector<float> result(static_cast<size_t>(batch.n_tokens() * row), std::nanf(""));
    backend.PagedAttention(*device.step, layer, heads_.n_heads, scale(), heads_.window, qkv.data(),
                           *device.kv, result.data());
    out->resize(sequences.size());
    for (size_t i = 0; i < sequences.size(); ++i) {
      (*out)[i].insert((*out)[i].end(), result.begin() + batch.cu_seqlens[i] * row,
                       result.begin() + batch.cu_seqlens[i + 1] * row);
    }
  }

 private:
  Heads heads_;
  DType kv_dtype_;
  int half_;
  std::vector<float> cos_, sin_;  // [n_positions, head_dim / 2]
  std::vector<float> q_norm_, k_norm_;
};

Sequence RandomSequence(const Heads& heads, int n_tokens, int* next_block, Random* random) {
  Sequence s;
  s.n_tokens = n_tokens;
  s.qkv = random->Normals(static_cast<size_t>(n_tokens * heads.width()), 1.5f);
  for (int t = 0; t < n_tokens; t += kKvBlockTokens) s.blocks.push_back((*next_block)++);
  std::shuffle(s.blocks.begin(), s.blocks.end(), std::mt19937(7));
  return s;
}

class PagedAttentionOfEveryKvType : public ::testing::TestWithParam<DType> {};

// Prompts whole, in chunks and token by token, several sequences to the step: always the oracle's bits.
TEST_P(PagedAttentionOfEveryKvType, EqualsTheOracleUnderAnyChunking) {
  Random random;
  const Heads kinds[] = {{3, 1, 64, false, 0}, {4, 2, 16, true, 0},   {2, 2, 24, false, 0},
                         {7, 1, 80, false, 0}, {9, 3, 64, false, 37}, {2, 1, 8, true, 3}};
  for (const Heads& heads : kinds) {
    SCOPED_TRACE(::testing::Message() << heads.n_heads << "/" << heads.n_kv_heads << " heads of "
                                      << heads.head_dim << ", window " << heads.window);
    const int longest = random.Int(130, 150);
    const Attention attention(heads, GetParam(), longest, &random);
    int next_block = 0;
    const Sequence a = RandomSequence(heads, longest, &next_block, &random);
    const Sequence b = RandomSequence(heads, random.Int(60, 70), &next_block, &random);
    const std::vector<float> expect_a = attention.Expected(a);
    const std::vector<float> expect_b = attention.Expected(b);
    ForEveryBackend(
        NumericsMode::kFast,
        [&](Backend& backend) {
          const Attention::Device device = attention.Prepare(backend, next_block);
          std::vector<std::vector<float>> out;
          attention.Step(backend, device, {&a, &b}, {{0, a.n_tokens}, {0, b.n_tokens}}, &out);
          ASSERT_TRUE(SameBits(out[0], expect_a)) << "whole";
          ASSERT_TRUE(SameBits(out[1], expect_b)) << "whole";

          out.clear();
          for (int done = 0, size = 1; done < b.n_tokens; done += size) {
            size = std::min(random.Int(1, 40), b.n_tokens - done);
            attention.Step(backend, device, {&b}, {{done, done + size}}, &out);
          }
          ASSERT_TRUE(SameBits(out[0], expect_b)) << "in chunks";

          out.clear();
          const int half = b.n_tokens / 2;
          attention.Step(backend, device, {&b, &a}, {{0, half}, {0, 17}}, &out);
          for (int t = half; t < b.n_tokens; ++t) attention.Step(backend, device, {&b}, {{t, t + 1}}, &out);
          ASSERT_TRUE(SameBits(out[0], expect_b)) << "token by token";
        },
        GetParam());
  }
}

INSTANTIATE_TEST_SUITE_P(All, PagedAttentionOfEveryKvType,
                         ::testing::Values(DType::kF32, DType::kBF16, DType::kF16),
                         [](const auto& info) { return std::string(DTypeName(info.param)); });

// A block that an earlier, broken sequence left full of NaN is given to another one.
TEST(PagedAttention, WhatStandsInABlockBeyondTheSequenceChangesNothing) {
  Random random;
  const Heads heads = {3, 1, 32, false, 0};
  const Attention attention(heads, DType::kBF16, 64, &random);
  int next_block = 0;
  Sequence broken = RandomSequence(heads, 64, &next_block, &random);
  Sequence good = RandomSequence(heads, 41, &next_block, &random);
  good.blocks = broken.blocks;
  for (float& v : broken.qkv) v = std::nanf("");
  const std::vector<float> expected = attention.Expected(good);
  ForEveryBackend(NumericsMode::kFast, [&](Backend& backend) {
    const Attention::Device device = attention.Prepare(backend, next_block);
    std::vector<std::vector<float>> out;
    attention.Step(backend, device, {&broken}, {{0, 64}}, &out);
    out.clear();
    attention.Step(backend, device, {&good}, {{0, 41}}, &out);
    ASSERT_TRUE(SameBits(out[0], expected));
  });
}

TEST(PagedAttention, IsNearFloat64) {
  Random random;
  const Heads heads = {2, 1, 64, false, 0};
  const int n = 300;
  Attention attention(heads, DType::kF32, n, &random);
  int next_block = 0;
  const Sequence s = RandomSequence(heads, n, &next_block, &random);
  // Softmax in float64 over the oracle's rotated K, by asking the oracle for a single key at a time would
  // repeat it; instead: constant keys make every weight equal, so the answer is the running mean of the
  // values.
  Sequence flat = s;
  for (int t = 0; t < n; ++t) {
    for (int d = 0; d < 3 * heads.head_dim; ++d) flat.qkv[static_cast<size_t>(t * heads.width() + d)] = 0;
  }
  std::unique_ptr<Backend> backend = std::move(Backend::Create({.mode = NumericsMode::kExact})).value();
  const Attention::Device device = attention.Prepare(*backend, next_block);
  std::vector<std::vector<float>> out;
  attention.Step(*backend, device, {&flat}, {{0, n}}, &out);
  std::vector<double> sum(static_cast<size_t>(heads.head_dim));
  for (int t = 0; t < n; ++t) {
    for (int d = 0; d < heads.head_dim; ++d) {
      sum[static_cast<size_t>(d)] +=
          flat.qkv[static_cast<size_t>(t * heads.width() + 3 * heads.head_dim + d)];
      ASSERT_NEAR(out[0][static_cast<size_t>(t * 2 * heads.head_dim + d)],
                  sum[static_cast<size_t>(d)] / (t + 1), 2e-6);
    }
  }
}

class FullAttentionOfBothModes : public ::testing::TestWithParam<NumericsMode> {};

TEST_P(FullAttentionOfBothModes, EqualsTheOracleBitForBit) {
  Random random;
  const bool fast = GetParam() == NumericsMode::kFast;
  for (const auto& [n_heads, head_dim] :
       {std::pair{12, 32}, std::pair{2, 20}, std::pair{3, 64}, std::pair{1, 13}}) {
    std::vector<int32_t> cu_seqlens = {0};
    for (int n : {1, 16, random.Int(17, 63), random.Int(65, 140)})
      cu_seqlens.push_back(cu_seqlens.back() + n);
    const int width = 3 * n_heads * head_dim;
    const std::vector<float> qkv = random.Normals(static_cast<size_t>(cu_seqlens.back() * width));
    std::vector<float> expected(static_cast<size_t>(cu_seqlens.back() * n_heads * head_dim));
    const auto head_of = [&](int t, int head) {
      const float* p = qkv.data() + t * width + head * head_dim;
      return std::vector<float>(p, p + head_dim);
    };
    for (size_t text = 0; text + 1 < cu_seqlens.size(); ++text) {
      for (int head = 0; head < n_heads; ++head) {
        std::vector<std::vector<float>> keys, values;
        for (int t = cu_seqlens[text]; t < cu_seqlens[text + 1]; ++t) {
          keys.push_back(head_of(t, n_heads + head));
          values.push_back(head_of(t, 2 * n_heads + head));
          for (std::vector<float>* row : {&keys.back(), &values.back()}) {
            for (float& v : *row) v = oracle::RoundKv(fast ? DType::kBF16 : DType::kF32, v);
          }
        }
        for (int t = cu_seqlens[text]; t < cu_seqlens[text + 1]; ++t) {
          const std::vector<float> o = (fast ? oracle::AttendBf16 : oracle::Attend)(
              head_of(t, head), keys, values, 0, cu_seqlens[text + 1] - cu_seqlens[text],
              1.0f / std::sqrt(static_cast<float>(head_dim)));
          std::copy(o.begin(), o.end(), expected.begin() + (t * n_heads + head) * head_dim);
        }
      }
    }
    ForEveryBackend(GetParam(), [&, n_heads = n_heads, head_dim = head_dim](Backend& backend) {
      std::vector<float> out(expected.size());
      backend.FullAttention(qkv.data(), cu_seqlens, n_heads, head_dim, out.data());
      ASSERT_TRUE(SameBits(out, expected));
    });
  }
}

INSTANTIATE_TEST_SUITE_P(Modes, FullAttentionOfBothModes,
                         ::testing::Values(NumericsMode::kExact, NumericsMode::kFast), [](const auto& info) {
                           return info.param == NumericsMode::kExact ? "exact" : "fast";
                         });

}  // namespace
}  // namespace coterie::testing
