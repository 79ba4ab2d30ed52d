#include "router/canary.h"

#include <cmath>
#include <string>

#include "gtest/gtest.h"

namespace coterie {
namespace {

std::string Key(int i) { return "trace-" + std::to_string(i); }

TEST(CanaryTest, TakesItsShareOfTheKeysAndAlwaysTheSameOnes) {
  constexpr int kKeys = 20'000;
  for (const double share : {0.01, 0.1, 0.5, 0.9}) {
    int taken = 0;
    for (int i = 0; i < kKeys; ++i) {
      const bool takes = TakesCanary(Key(i), "postgres", share);
      EXPECT_EQ(takes, TakesCanary(Key(i), "postgres", share));
      taken += takes;
    }
    // Five standard deviations of a binomial count.
    EXPECT_NEAR(taken, kKeys * share, 5 * std::sqrt(kKeys * share * (1 - share))) << share;
  }
}

TEST(CanaryTest, ALargerShareKeepsTheKeysItHad) {
  for (int i = 0; i < 2000; ++i) {
    if (TakesCanary(Key(i), "postgres", 0.1)) {
      EXPECT_TRUE(TakesCanary(Key(i), "postgres", 0.2)) << i;
    }
  }
}

TEST(CanaryTest, TheCanariesOfTwoExpertsMeetDifferentKeys) {
  int both = 0;
  constexpr int kKeys = 20'000;
  for (int i = 0; i < kKeys; ++i) {
    both += TakesCanary(Key(i), "postgres", 0.1) && TakesCanary(Key(i), "python", 0.1);
  }
  EXPECT_NEAR(both, kKeys * 0.01, 5 * std::sqrt(kKeys * 0.01 * 0.99));
}

TEST(CanaryTest, NothingIsNoneAndEverythingIsAll) {
  for (int i = 0; i < 1000; ++i) {
    EXPECT_FALSE(TakesCanary(Key(i), "postgres", 0));
    EXPECT_FALSE(TakesCanary(Key(i), "postgres", std::nan("")));
    EXPECT_TRUE(TakesCanary(Key(i), "postgres", 1));
  }
}

// The decision is part of what gateways of different versions must agree on.
TEST(CanaryTest, TheHashIsFixed) {
  std::string taken;
  for (int i = 0; i < 32; ++i) taken += TakesCanary(Key(i), "postgres", 0.5) ? '1' : '0';
  EXPECT_EQ(taken, "11000010000001011010111010111010");
}

}  // namespace
}  // namespace coterie
