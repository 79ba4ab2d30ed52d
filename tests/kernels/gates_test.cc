#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <numeric>

#include "kernels/arrow.h"
#include "kernels/formats/dequantize.h"
#include "kernels/gate_weights.h"
#include "tests/golden/golden_arrays.h"
#include "tests/kernels/op_testing.h"
#include "tests/source_root.h"

namespace coterie::testing {
namespace {

HostMatrix Floats(const std::vector<float>& values, int64_t n_out) {
  HostMatrix matrix;
  matrix.n_out = n_out;
  matrix.n_in = static_cast<int64_t>(values.size()) / n_out;
  matrix.data = reinterpret_cast<const uint8_t*>(values.data());
  return matrix;
}

// Aᵀ w
std::vector<double> InputsOf(const std::vector<float>& w, const std::vector<float>& a) {
  const size_t n_in = a.size() / w.size();
  std::vector<double> v(n_in);
  for (size_t r = 0; r < w.size(); ++r) {
    for (size_t k = 0; k < n_in; ++k)
      v[k] += static_cast<double>(w[r]) * static_cast<double>(a[r * n_in + k]);
  }
  return v;
}

TEST(Arrow, IsTheTopRightSingularVectorOfNumpy) {
  const auto arrays = ReadGoldenArrays(SourceRoot() / "tests/golden/gates.bin");
  ASSERT_TRUE(arrays.ok()) << arrays.status();
  int n = 0;
  for (; arrays->count(absl::StrCat("arrow/", n, ".a")) > 0; ++n) {
    SCOPED_TRACE(n);
    const auto array = [&](const char* what) {
      return arrays->at(absl::StrCat("arrow/", n, what)).As<float>();
    };
    const std::vector<float> a = array(".a"), b = array(".b"), v = array(".v");
    const auto rank = static_cast<int64_t>(a.size() / v.size());
    const HostMatrix host_a = Floats(a, rank);
    const HostMatrix host_b = Floats(b, static_cast<int64_t>(b.size()) / rank);
    const std::vector<float> w = ArrowDirection(host_a, host_b);
    EXPECT_EQ(ArrowDirection(host_a, host_b), w);
    const std::vector<double> got = InputsOf(w, a);
    double cosine = 0;
    for (size_t k = 0; k < v.size(); ++k) cosine += got[k] * static_cast<double>(v[k]);
    const double sign = cosine < 0 ? -1 : 1;
    for (size_t k = 0; k < v.size(); ++k) EXPECT_NEAR(sign * got[k], static_cast<double>(v[k]), 1e-6);
  }
  EXPECT_EQ(n, 9);
}

TEST(Arrow, IsZeroWhereThePairChangesNothing) {
  Random random;
  const std::vector<float> a = random.Normals(4 * 16), zeros(24 * 4);
  EXPECT_EQ(ArrowDirection(Floats(a, 4), Floats(zeros, 24)), std::vector<float>(4));
  EXPECT_EQ(ArrowDirection(Floats(zeros, 4), Floats(a, 16)), std::vector<float>(4));
}

TEST(Arrow, IsRootedInWhateverTypeTheFactorsHave) {
  Random random;
  const RandomMatrix a(DType::kBF16, 6, 40, &random), b(DType::kF16, 32, 6, &random);
  std::vector<float> wide_a(6 * 40), wide_b(32 * 6);
  Dequantize(DType::kBF16, a.host.data, 6 * 40, wide_a.data());
  Dequantize(DType::kF16, b.host.data, 32 * 6, wide_b.data());
  EXPECT_EQ(ArrowDirection(a.host, b.host), ArrowDirection(Floats(wide_a, 6), Floats(wide_b, 32)));
}

std::vector<float> Weights(const std::vector<float>& scores, int top_k) {
  std::vector<float> weights(scores.size(), 7.0f);
  GateWeights(scores, top_k, weights);
  return weights;
}

TEST(GateWeights, AreASoftmaxOfTheHighestScores) {
  const std::vector<float> scores = {0.5f, -1.0f, 2.0f, 0.25f};
  for (int top_k = 1; top_k <= 4; ++top_k) {
    const std::vector<float> weights = Weights(scores, top_k);
    std::vector<size_t> order = {2, 0, 3, 1};
    double sum = 0;
    for (int i = 0; i < top_k; ++i)
      sum += std::exp(static_cast<double>(scores[order[static_cast<size_t>(i)]]));
    for (size_t i = 0; i < order.size(); ++i) {
      const double expected =
          static_cast<int>(i) < top_k ? std::exp(static_cast<double>(scores[order[i]])) / sum : 0;
      EXPECT_NEAR(static_cast<double>(weights[order[i]]), expected, 1e-6) << top_k;
    }
  }
}

TEST(GateWeights, OfEqualScoresTheEarlierIsUsed) {
  EXPECT_EQ(Weights({1, 3, 3, 3}, 2), (std::vector<float>{0, 0.5f, 0.5f, 0}));
  EXPECT_EQ(Weights({0, 0, 0, 0}, 4), std::vector<float>(4, 0.25f));
  EXPECT_EQ(Weights({-5}, 1), std::vector<float>{1});
  EXPECT_EQ(Weights({100, -100}, 2), (std::vector<float>{1, 0}));  // too far below to have mass
}

TEST(GateWeights, AScoreThatIsNoNumberSpoilsAll) {
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    for (const float weight : Weights({1, bad, 2}, 1)) EXPECT_TRUE(std::isnan(weight));
  }
}

TEST(NoisyScores, AreUniformAndDependOnEverythingTheyAreDrawnFor) {
  std::vector<float> scores(16), fewer(5), other(16);
  NoisyScores(1, 2, 3, LoraModule::kO, scores);
  NoisyScores(1, 2, 3, LoraModule::kO, fewer);
  EXPECT_EQ(fewer, std::vector<float>(scores.begin(), scores.begin() + 5));
  const auto differs = [&](uint64_t seed, int position, int layer, LoraModule module) {
    NoisyScores(seed, position, layer, module, other);
    EXPECT_NE(other, scores);
  };
  differs(2, 2, 3, LoraModule::kO);
  differs(uint64_t{1} << 32 | 1, 2, 3, LoraModule::kO);
  differs(1, 3, 3, LoraModule::kO);
  differs(1, 2, 4, LoraModule::kO);
  differs(1, 2, 3, LoraModule::kV);
  double sum = 0, squares = 0;
  constexpr int kDraws = 4000;
  for (int position = 0; position < kDraws; ++position) {
    NoisyScores(9, position, 0, LoraModule::kQ, scores);
    for (const float score : scores) {
      ASSERT_GE(score, -1);
      ASSERT_LT(score, 1);
      sum += static_cast<double>(score);
      squares += static_cast<double>(score) * static_cast<double>(score);
    }
  }
  EXPECT_NEAR(sum / (16.0 * kDraws), 0, 0.01);
  EXPECT_NEAR(squares / (16.0 * kDraws), 1.0 / 3, 0.01);
}

TEST(ArrowGates, TakeAFewBytesOfAnAdapterAndAnotherLayout) {
  Random random;
  const RandomMatrix a(DType::kBF16, 16, 576, &random), b(DType::kBF16, 192, 16, &random);
  const std::vector<HostLora> pair = {{a.host, b.host, 1.0f, 0, LoraModule::kO}};
  CpuBackendOptions options;
  const auto without = std::move(Backend::Create(options)).value();
  options.arrow_gates = true;
  const auto with = std::move(Backend::Create(options)).value();
  EXPECT_NE(with->adapter_layout(), without->adapter_layout());
  EXPECT_EQ(with->numerics_class(), without->numerics_class());
  const auto packed = std::move(with->PackAdapter(pair)).value();
  EXPECT_EQ(packed->bytes(), std::move(without->PackAdapter(pair)).value()->bytes() + 16 * sizeof(float));
  const auto copy = std::move(with->CopyAdapter(pair, packed->weights())).value();
  EXPECT_TRUE(std::ranges::equal(copy->weights(), packed->weights()));
  EXPECT_TRUE(absl::IsInvalidArgument(without->CopyAdapter(pair, packed->weights()).status()));
}

}  // namespace
}  // namespace coterie::testing
