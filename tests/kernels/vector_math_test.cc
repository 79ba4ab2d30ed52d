#include "kernels/cpu/vector_math.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "gtest/gtest.h"
#include "kernels/token_weights.h"

namespace coterie::cpu {
namespace {

TEST(VectorMathTest, ExpIsWithinItsBoundEverywhere) {
  std::vector<float> distances;
  for (int i = 0; i <= 870000; ++i) distances.push_back(static_cast<float>(i) * 1e-4f);
  std::vector<float> weights(distances.size());
  ExpOfNegatives(distances, weights);
  double worst = 0;
  for (size_t i = 0; i < distances.size(); ++i) {
    if (distances[i] >= 87.0f) continue;
    const double exact = std::exp(-static_cast<double>(distances[i]));
    worst = std::max(worst, std::fabs(weights[i] - exact) / exact);
  }
  EXPECT_LT(worst, 3e-7);
  EXPECT_EQ(weights[0], 1.0f);
}

TEST(VectorMathTest, FarTokensWeighNothing) {
  std::vector<float> weights(5);
  ExpOfNegatives(std::vector<float>{87.0f, 1000.0f, INFINITY, 0.0f, 3e38f}, weights);
  EXPECT_EQ(weights, (std::vector<float>{0, 0, 0, 1, 0}));
}

TEST(VectorMathTest, MassesAreWholeUnitsAndAddUpExactly) {
  std::vector<float> distances, weights(200000);
  for (size_t i = 0; i < weights.size(); ++i) distances.push_back(static_cast<float>(i) * 2e-4f);
  ExpOfNegatives(distances, weights);
  uint64_t sum = 0;
  for (size_t i = 0; i < weights.size(); ++i) {
    const float units = weights[i] * 0x1p41f;  // exact
    ASSERT_EQ(MassOf(weights[i]), static_cast<uint64_t>(std::nearbyint(units))) << distances[i];
    ASSERT_TRUE(distances[i] < kNoMassFrom || MassOf(weights[i]) == 0) << distances[i];
    const float one = ExpOfNegative<float, int32_t>(distances[i]);
    ASSERT_EQ(one, weights[i]) << "one lane and four";
    sum += MassOf(weights[i]);
  }
  EXPECT_EQ(MassOfAll(weights), sum);
  std::reverse(weights.begin(), weights.end());
  EXPECT_EQ(MassOfAll(weights), sum);
  EXPECT_EQ(MassOf(1.0f), uint64_t{1} << kUnitBits);
}

TEST(VectorMathTest, ANucleusIsNeverEmptyNorMoreThanThereIs) {
  const uint64_t one = uint64_t{1} << kUnitBits;
  EXPECT_EQ(NucleusMass(0.5f, one), one / 2);
  EXPECT_EQ(NucleusMass(0.0f, one), 1u);
  for (const uint64_t total : {one, one + 1, 3 * one - 1, one << 22, (one << 22) - 1}) {
    EXPECT_LE(NucleusMass(std::nextafter(1.0f, 0.0f), total), total);
    EXPECT_LT(DrawTarget(UINT64_MAX, total), total);
    EXPECT_EQ(DrawTarget(0, total), 0u);
  }
}

TEST(VectorMathTest, TheLogarithmIsWithinItsBound) {
  for (double x = 1e-60; x < 1e30; x *= 1.003) {
    const double exact = std::log(x);
    EXPECT_NEAR(LogOf(x), exact, 1e-12 * std::max(1.0, std::fabs(exact))) << x;
  }
  EXPECT_EQ(LogOf(1.0), 0.0);
}

TEST(VectorMathTest, EveryLengthIsCoveredToItsEnd) {
  for (size_t n = 1; n < 20; ++n) {
    for (size_t at = 0; at < n; ++at) {
      std::vector<float> values(n, 1.0f);
      values[at] = 2.0f;
      EXPECT_EQ(MaxIfFinite(values), 2.0f);
      EXPECT_EQ(WeightOfMass(MassOfAll(values)), static_cast<double>(n + 1));
      std::vector<float> distances(n);
      DistancesBelow(2.0f, values, 0.5f, distances);
      for (size_t i = 0; i < n; ++i) EXPECT_EQ(distances[i], i == at ? 0.0f : 2.0f);
      std::vector<float> zeros(n, 0.0f);
      zeros[at] = -0.0f;
      DistancesBelow(-0.0f, zeros, 0.5f, distances);
      for (size_t i = 0; i < n; ++i) EXPECT_FALSE(std::signbit(distances[i]));
      for (const float bad : {NAN, INFINITY, -INFINITY}) {
        values[at] = bad;
        EXPECT_TRUE(std::isnan(MaxIfFinite(values))) << bad;
      }
    }
  }
}

}  // namespace
}  // namespace coterie::cpu
