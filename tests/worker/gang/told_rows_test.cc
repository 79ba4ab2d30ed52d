// What of a row of logits travels, and what is made of it.
#include "worker/gang/told_rows.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <random>

#include "gtest/gtest.h"
#include "kernels/batch.h"
#include "tests/testing/seed.h"

namespace coterie {
namespace {

struct Arrived {
  std::vector<float> logits;
  std::vector<uint32_t> told;
};

Arrived Travel(const std::vector<float>& logits, uint32_t top_tokens) {
  const int vocab_size = static_cast<int>(logits.size());
  ToldRows rows(vocab_size, top_tokens);
  std::vector<std::byte> bytes(rows.row_bytes());
  rows.Pack(logits, bytes);
  Arrived arrived{std::vector<float>(logits.size(), NAN),
                  std::vector<uint32_t>(static_cast<size_t>(MaskWords(vocab_size)))};
  EXPECT_TRUE(rows.Unpack(bytes, arrived.logits, arrived.told).ok());
  return arrived;
}

std::vector<float> RandomLogits(int n, uint64_t seed) {
  std::mt19937_64 random(seed);
  std::normal_distribution<float> normal(0.0f, 4.0f);
  std::vector<float> logits(static_cast<size_t>(n));
  for (float& logit : logits) logit = normal(random);
  return logits;
}

double Mass(const std::vector<float>& logits) {
  double mass = 0;
  for (const float logit : logits) mass += std::exp(static_cast<double>(logit));
  return mass;
}

TEST(ToldRowsTest, AllOfThemArriveAsTheyWere) {
  std::vector<float> logits = RandomLogits(77, testing::TestSeed());
  logits[3] = -INFINITY;
  EXPECT_EQ(Travel(logits, 0).logits, logits);
  EXPECT_EQ(Travel(logits, 77).logits, logits);
}

TEST(ToldRowsTest, TheLargestArriveAndTheMassOfTheOthers) {
  const uint64_t seed = testing::TestSeed();
  for (const uint32_t top : {1u, 5u, 31u, 76u}) {
    std::vector<float> logits = RandomLogits(77, seed + top);
    const Arrived arrived = Travel(logits, top);
    int n_told = 0;
    float least_told = INFINITY, most_untold = -INFINITY;
    for (size_t token = 0; token < logits.size(); ++token) {
      if (MaskAllows(arrived.told, token)) {
        ++n_told;
        EXPECT_EQ(arrived.logits[token], logits[token]);
        least_told = std::min(least_told, logits[token]);
      } else {
        most_untold = std::max(most_untold, logits[token]);
      }
    }
    EXPECT_EQ(n_told, static_cast<int>(top));
    EXPECT_GE(least_told, most_untold);
    EXPECT_NEAR(Mass(arrived.logits) / Mass(logits), 1.0, 1e-5) << "top " << top;
  }
}

TEST(ToldRowsTest, OfEqualLogitsTheLowerIdsAreTold) {
  const Arrived arrived = Travel({1, 2, 2, 0, 2, 2}, 3);
  EXPECT_EQ(arrived.told.front(), 0b010110u);
}

TEST(ToldRowsTest, ARowThatIsNotFiniteIsToldAsOne) {
  for (const float bad : {NAN, INFINITY}) {
    std::vector<float> logits = RandomLogits(40, 3);
    logits[39] = bad;
    const Arrived arrived = Travel(logits, 4);
    EXPECT_TRUE(std::isnan(arrived.logits[0]) || std::isnan(arrived.logits[20]));
  }
}

TEST(ToldRowsTest, ATokenThatIsNoneIsRefused) {
  const ToldRows rows(10, 1);
  std::vector<float> logits(10);
  std::vector<uint32_t> told(1);
  for (const int32_t token : {-1, 10, INT32_MIN, INT32_MAX}) {
    std::vector<std::byte> bytes(rows.row_bytes());
    std::memcpy(bytes.data(), &token, sizeof(token));
    EXPECT_EQ(rows.Unpack(bytes, logits, told).code(), absl::StatusCode::kDataLoss);
  }
}

}  // namespace
}  // namespace coterie
