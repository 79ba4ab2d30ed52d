#include "kernels/cpu/vector_math.h"

#include <cmath>
#include <vector>

#include "gtest/gtest.h"

namespace coterie::cpu {
namespace {

TEST(VectorMathTest, ExpIsWithinItsBoundEverywhere) {
  std::vector<float> distances;
  for (int i = 0; i <= 870000; ++i) distances.push_back(static_cast<float>(i) * 1e-4f);
  std::vector<float> weights(distances.size());
  ExpOfNegative(distances, weights);
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
  ExpOfNegative(std::vector<float>{87.0f, 1000.0f, INFINITY, 0.0f, 3e38f}, weights);
  EXPECT_EQ(weights, (std::vector<float>{0, 0, 0, 1, 0}));
}

TEST(VectorMathTest, EveryLengthIsCoveredToItsEnd) {
  for (size_t n = 1; n < 20; ++n) {
    for (size_t at = 0; at < n; ++at) {
      std::vector<float> values(n, 1.0f);
      values[at] = 2.0f;
      EXPECT_EQ(MaxIfFinite(values), 2.0f);
      EXPECT_EQ(SumOf(values), static_cast<double>(n + 1));
      std::vector<float> distances(n);
      DistancesBelow(2.0f, values, 0.5f, distances);
      for (size_t i = 0; i < n; ++i) EXPECT_EQ(distances[i], i == at ? 0.0f : 2.0f);
      for (const float bad : {NAN, INFINITY, -INFINITY}) {
        values[at] = bad;
        EXPECT_TRUE(std::isnan(MaxIfFinite(values))) << bad;
      }
    }
  }
}

}  // namespace
}  // namespace coterie::cpu
