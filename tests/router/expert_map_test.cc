#include "router/expert_map.h"

#include <cmath>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/router/router_testing.h"

namespace coterie {
namespace {

using ::testing::ElementsAre;
using ::testing::SizeIs;

double Length(const std::vector<float>& v) {
  double sum = 0;
  for (const float x : v) sum += static_cast<double>(x) * x;
  return std::sqrt(sum);
}

double Cosine(const std::vector<float>& a, const std::vector<float>& b) {
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i) sum += static_cast<double>(a[i]) * b[i];
  return sum;
}

// Experts in three separate fields: what lies in one field stays together, whatever the other dimensions do.
TEST(ExpertMapTest, ExpertsOfOneFieldLieTogether) {
  std::mt19937 random(3);
  constexpr size_t kDim = 64;
  std::vector<std::vector<float>> fields;
  for (int i = 0; i < 3; ++i) fields.push_back(RandomUnit(kDim, &random));
  std::vector<IndexedExpert> experts;
  for (int i = 0; i < 30; ++i) {
    std::vector<float> prototypes;
    for (int p = 0; p < 4; ++p) {
      std::vector<float> v = RandomUnit(kDim, &random);
      for (size_t d = 0; d < kDim; ++d) v[d] = 0.3f * v[d] + fields[i % 3][d];
      const double norm = Length(v);
      for (float& x : v) x = static_cast<float>(x / norm);
      prototypes.insert(prototypes.end(), v.begin(), v.end());
    }
    experts.push_back(MakeExpert("e" + std::to_string(100 + i), prototypes));
  }
  const auto index = ExpertIndex::Create({.dim = kDim}, experts).value();
  const ExpertMap map = DrawExpertMap(*index, {});
  EXPECT_TRUE(map.complete);
  ASSERT_THAT(map.experts, SizeIs(30));
  ASSERT_THAT(map.points, SizeIs(120));
  EXPECT_NEAR(Length(map.axes[0]), 1, 1e-3);
  EXPECT_NEAR(Length(map.axes[1]), 1, 1e-3);
  EXPECT_NEAR(Cosine(map.axes[0], map.axes[1]), 0, 1e-3);
  const auto distance = [&](size_t a, size_t b) {
    return std::hypot(map.points[a][0] - map.points[b][0], map.points[a][1] - map.points[b][1]);
  };
  float farthest_inside = 0, nearest_outside = 1e9;
  for (size_t a = 0; a < 120; ++a) {
    for (size_t b = 0; b < a; ++b) {
      if (a / 4 % 3 == b / 4 % 3) {
        farthest_inside = std::max(farthest_inside, distance(a, b));
      } else {
        nearest_outside = std::min(nearest_outside, distance(a, b));
      }
    }
  }
  EXPECT_LT(farthest_inside, nearest_outside);
  const ExpertMap again = DrawExpertMap(*index, {});
  EXPECT_EQ(again.points, map.points);
  // A prototype falls where it is drawn.
  const auto row = index->prototype(7, 2);
  EXPECT_EQ(map.Project(row), map.points[map.offsets[7] + 2]);
}

TEST(ExpertMapTest, ManyExpertsAreThinnedOutEvenly) {
  std::mt19937 random(4);
  std::vector<IndexedExpert> experts;
  for (int i = 0; i < 40; ++i) {
    std::vector<float> prototypes;
    for (int p = 0; p < 6; ++p) {
      const auto v = RandomUnit(3, &random);
      prototypes.insert(prototypes.end(), v.begin(), v.end());
    }
    experts.push_back(
        MakeExpert("e" + std::to_string(100 + i), i % 2 == 0 ? prototypes : std::vector<float>()));
  }
  const auto index = MakeIndex(experts);
  const ExpertMap some = DrawExpertMap(*index, {.max_points = 10});
  EXPECT_FALSE(some.complete);
  EXPECT_THAT(some.experts, ElementsAre(0, 4, 8, 12, 16, 20, 24, 28, 32, 36));
  EXPECT_THAT(some.points, SizeIs(10));
  const ExpertMap thin = DrawExpertMap(*index, {.max_points = 50});
  EXPECT_TRUE(thin.complete);  // those without prototypes lie nowhere
  EXPECT_THAT(thin.experts, SizeIs(20));
  EXPECT_THAT(thin.points, SizeIs(40));
}

TEST(ExpertMapTest, FewExpertsAndEqualOnesMakeAMapToo) {
  const auto finite = [](const ExpertMap& map) {
    for (const auto& point : map.points) {
      if (!std::isfinite(point[0]) || !std::isfinite(point[1])) return false;
    }
    return map.axes[0].size() == 3 && map.axes[1].size() == 3;
  };
  EXPECT_TRUE(finite(DrawExpertMap(*MakeIndex({}), {})));
  EXPECT_TRUE(finite(DrawExpertMap(*MakeIndex({MakeExpert("one", kAxis)}), {})));
  EXPECT_TRUE(finite(DrawExpertMap(
      *MakeIndex({MakeExpert("a", kAxis), MakeExpert("b", kAxis), MakeExpert("c", kAxis)}), {})));
  // Two experts differ along one axis, and their prototypes along the other.
  std::vector<float> wide = AtCosine(0.5f), narrow = AtCosine(0.9f, 2);
  const auto more = AtCosine(0.5f, 1);
  wide.insert(wide.end(), more.begin(), more.end());
  const ExpertMap two = DrawExpertMap(*MakeIndex({MakeExpert("a", wide), MakeExpert("b", narrow)}), {});
  EXPECT_TRUE(finite(two));
  EXPECT_NE(two.points[0], two.points[1]);
  const auto line = ExpertIndex::Create({.dim = 1}, {MakeExpert("a", {1}), MakeExpert("b", {-1})}).value();
  const ExpertMap flat = DrawExpertMap(*line, {});
  EXPECT_EQ(flat.points[0][1], 0);
}

}  // namespace
}  // namespace coterie
