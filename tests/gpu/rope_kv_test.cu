// Norm, rotation and the KV write, against float64.
#include <gtest/gtest.h>

#include <cmath>
#include <set>
#include <vector>

#include "kernels/cuda/device_code.h"
#include "kernels/cuda/ops.h"
#include "paged_step.h"

namespace coterie::cuda {
namespace {

constexpr uint16_t kUnwritten = 0xFFFF;  // what fresh device memory holds: NaN

class CudaRopeKvTest : public PagedStepTest {
 protected:
  void SetUp() override {
    DeviceArraysTest::SetUp();
    kv_.n_layers = Between(1, 3);
    kv_.n_kv_heads = Between(1, 3);
    n_heads_ = kv_.n_kv_heads * Between(1, 5);
    layer_ = Between(0, kv_.n_layers - 1);
  }
  void Choose(int head_dim, int rotary_dim, bool norms) {
    kv_.head_dim = head_dim;
    kv_.n_blocks = n_blocks_;
    rotary_dim_ = rotary_dim;
    q_norm_ = norms ? Normals(static_cast<size_t>(head_dim)) : std::vector<float>();
    k_norm_ = norms ? Normals(static_cast<size_t>(head_dim)) : std::vector<float>();
    const int longest = *std::max_element(lengths_.begin(), lengths_.end());
    for (int i = 0; i < longest * rotary_dim / 2; ++i) {
      const double angle = Normal() * 3;
      cos_.push_back(static_cast<float>(std::cos(angle)));
      sin_.push_back(static_cast<float>(std::sin(angle)));
    }
    kv_size_ = static_cast<size_t>(KvHeadOffset(kv_, kv_.n_layers, 0, 0, 0));
    kv_.blocks = DeviceOf<uint16_t>(kv_size_);
  }
  size_t Width() const { return static_cast<size_t>((n_heads_ + 2 * kv_.n_kv_heads) * kv_.head_dim); }

  // Runs the op for a grid of `rows`; returns Q, K, V of the step as they are afterwards.
  std::vector<float> Run(const std::vector<StepPart>& parts, const std::vector<float>& qkv, int rows) {
    const StepData step = MakeStep(parts, n_heads_ / kv_.n_kv_heads, kv_.n_kv_heads, kAttentionTileVectors);
    float* const device = Device(qkv);
    RopeAndKvWrite(step, rows, layer_, n_heads_, q_norm_.empty() ? nullptr : Device(q_norm_),
                   k_norm_.empty() ? nullptr : Device(k_norm_), kEps, Device(cos_), Device(sin_), rotary_dim_,
                   device, kv_, stream_);
    return Host(device, qkv.size());
  }
  std::vector<double> Expected(const float* head, const std::vector<float>& norm, int position) const {
    std::vector<double> values(head, head + kv_.head_dim);
    if (!norm.empty()) {
      double squares = 0;
      for (const double v : values) squares += v * v;
      for (size_t i = 0; i < values.size(); ++i) {
        values[i] *= norm[i] / std::sqrt(squares / kv_.head_dim + kEps);
      }
    }
    const int half = rotary_dim_ / 2;
    for (int i = 0; i < half; ++i) {
      const double c = cos_[static_cast<size_t>(position * half + i)],
                   s = sin_[static_cast<size_t>(position * half + i)];
      const double x1 = values[static_cast<size_t>(i)], x2 = values[static_cast<size_t>(i + half)];
      values[static_cast<size_t>(i)] = x1 * c - x2 * s;
      values[static_cast<size_t>(i + half)] = x2 * c + x1 * s;
    }
    return values;
  }
  size_t KvAt(int sequence, int position, int k_or_v, int head) const {
    return static_cast<size_t>(KvHeadOffset(kv_, layer_, BlockOf(sequence, position), k_or_v, head) +
                               position % kKvBlockTokens * kv_.head_dim);
  }

  static constexpr float kEps = 1e-3f;
  KvLayout kv_;
  int n_heads_ = 0, layer_ = 0, rotary_dim_ = 0;
  std::vector<float> q_norm_, k_norm_, cos_, sin_;
  size_t kv_size_ = 0;
};
COTERIE_IN_ALL_ORDERS(CudaRopeKvTest);

TEST_P(CudaRopeKvTest, RotatesQAndWritesKAndVIntoTheSequencesBlocksAlone) {
  for (const int head_dim : {64, 80, 96, 128, 256, 2 * Between(1, 128)}) {
    for (const bool norms : {false, true}) {
      MakeSequences({Between(1, 50), 33, Between(16, 40), 17});
      cos_.clear();
      sin_.clear();
      Choose(head_dim, Between(0, 2) > 0 ? head_dim : 2 * Between(0, head_dim / 2), norms);
      SCOPED_TRACE("head_dim " + std::to_string(head_dim) + ", rotary_dim " + std::to_string(rotary_dim_));
      // Chunks, one over a block's edge, a single token, and a sequence that is not in the step.
      const std::vector<StepPart> parts = {{0, 0, lengths_[0]}, {1, 14, 33}, {3, 16, 17}};
      const int n_tokens = lengths_[0] + 19 + 1;
      const std::vector<float> qkv = Normals(Width() * static_cast<size_t>(n_tokens + 2));
      const std::vector<float> got = Run(parts, qkv, n_tokens + 2);
      const std::vector<uint16_t> kv = Host(kv_.blocks, kv_size_);
      std::set<size_t> written;
      const auto expect_written = [&](const std::vector<double>& want, size_t at) {
        for (size_t i = 0; i < want.size(); ++i) {
          EXPECT_NEAR(Bf16ToFloat(kv[at + i]), want[i], std::fabs(want[i]) * 0x1.1p-8 + 1e-6);
          written.insert(at + i);
        }
      };
      size_t row = 0;
      for (const StepPart& part : parts) {
        for (int position = part.begin; position < part.end; ++position, ++row) {
          const float* const from = qkv.data() + row * Width();
          for (int h = 0; h < n_heads_; ++h) {
            const std::vector<double> want = Expected(from + h * head_dim, q_norm_, position);
            for (int i = 0; i < head_dim; ++i) {
              EXPECT_NEAR(got[row * Width() + static_cast<size_t>(h * head_dim + i)],
                          want[static_cast<size_t>(i)], 1e-5 * (1 + std::fabs(want[static_cast<size_t>(i)])));
            }
          }
          for (int h = 0; h < kv_.n_kv_heads; ++h) {
            const float* const k = from + (n_heads_ + h) * head_dim;
            const float* const v = k + kv_.n_kv_heads * head_dim;
            expect_written(Expected(k, k_norm_, position), KvAt(part.sequence, position, 0, h));
            expect_written(std::vector<double>(v, v + head_dim), KvAt(part.sequence, position, 1, h));
          }
        }
      }
      for (size_t i = 0; i < kv.size(); ++i) {
        if (written.contains(i)) continue;
        ASSERT_EQ(kv[i], kUnwritten) << i;
      }
      // Rows behind the step's.
      EXPECT_TRUE(std::equal(qkv.end() - static_cast<std::ptrdiff_t>(2 * Width()), qkv.end(),
                             got.end() - static_cast<std::ptrdiff_t>(2 * Width())));
    }
  }
}

TEST_P(CudaRopeKvTest, ATokenGetsTheSameBitsAloneAndInAChunk) {
  MakeSequences({40});
  Choose(OneOf<int>({64, 80, 96, 128, 256}), 0, true);
  rotary_dim_ = 0;
  const std::vector<float> qkv = Normals(Width() * 40);
  const std::vector<float> together = Run({{0, 0, 40}}, qkv, 40);
  const std::vector<uint16_t> kv = Host(kv_.blocks, kv_size_);
  kv_.blocks = DeviceOf<uint16_t>(kv_size_);
  for (int t = 0; t < 40; ++t) {
    const auto begin = qkv.begin() + static_cast<std::ptrdiff_t>(Width()) * t;
    const std::vector<float> row(begin, begin + static_cast<std::ptrdiff_t>(Width()));
    const std::vector<float> alone = Run({{0, t, t + 1}}, row, 1);
    EXPECT_TRUE(
        std::equal(alone.begin(), alone.end(), together.begin() + static_cast<std::ptrdiff_t>(Width()) * t));
  }
  EXPECT_EQ(Host(kv_.blocks, kv_size_), kv);
}

// A key of infinity would be attended by nobody, and a value of NaN reach those that must not see it.
TEST_P(CudaRopeKvTest, AKeyOrValueOutOfRangeIsAKeyOfNanWithAValueOfZero) {
  MakeSequences({30});
  const int head_dim = OneOf<int>({64, 80, 96, 128, 256});
  Choose(head_dim, head_dim, Between(0, 1) == 1);
  const float bad[] = {NAN, INFINITY, -INFINITY, 1e20f};
  std::vector<float> qkv = Normals(Width() * 30);
  const int head = Between(0, kv_.n_kv_heads - 1);
  for (int t = 4; t < 12; ++t) {  // keys and values in turn
    const int unit = n_heads_ + head + (t % 2 == 0 ? 0 : kv_.n_kv_heads);
    qkv[static_cast<size_t>(t) * Width() + static_cast<size_t>(unit * head_dim + Between(0, head_dim - 1))] =
        bad[t / 2 % 4];
  }
  qkv[20 * Width() + static_cast<size_t>(Between(0, head_dim - 1))] = bad[Between(0, 2)];  // of head 0 of Q
  const std::vector<float> got = Run({{0, 0, 30}}, qkv, 30);
  const std::vector<uint16_t> kv = Host(kv_.blocks, kv_size_);
  for (int t = 0; t < 30; ++t) {
    for (int h = 0; h < kv_.n_kv_heads; ++h) {
      const bool spoilt = t >= 4 && t < 12 && h == head;
      for (int i = 0; i < head_dim; ++i) {
        const float k = Bf16ToFloat(kv[KvAt(0, t, 0, h) + static_cast<size_t>(i)]);
        const float v = Bf16ToFloat(kv[KvAt(0, t, 1, h) + static_cast<size_t>(i)]);
        EXPECT_EQ(std::isnan(k), spoilt) << t << ' ' << h;
        EXPECT_EQ(v == 0, spoilt) << t << ' ' << h;
      }
    }
  }
  const auto* q = got.data() + 20 * Width();
  EXPECT_TRUE(std::any_of(q, q + head_dim, [](float v) { return std::isnan(v); }));
  EXPECT_FALSE(std::any_of(q, q + head_dim, [](float v) { return std::isinf(v); }));
}

}  // namespace
}  // namespace coterie::cuda
