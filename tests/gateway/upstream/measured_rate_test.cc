#include "gateway/upstream/measured_rate.h"

#include <limits>
#include <random>

#include "gtest/gtest.h"

namespace coterie::gateway::testing {
namespace {

TEST(MeasuredRateTest, BeginsAtTheAssumptionAndFollows) {
  MeasuredRate rate(1000, 1, 1e7);
  EXPECT_EQ(rate.value(), 0);  // nothing measured: the assumption counts
  rate.Note(2000);
  EXPECT_DOUBLE_EQ(rate.value(), 1125);
  for (int i = 0; i < 200; ++i) rate.Note(50'000);
  EXPECT_NEAR(rate.value(), 50'000, 1);
  for (int i = 0; i < 200; ++i) rate.Note(3);
  EXPECT_NEAR(rate.value(), 3, 0.01);
  rate.Reset();
  EXPECT_EQ(rate.value(), 0);
}

TEST(MeasuredRateTest, WhatIsNoRateIsPassedOver) {
  MeasuredRate rate(1000, 1, 1e7);
  const double nonsense[] = {0,
                             -1,
                             -0.0,
                             std::numeric_limits<double>::quiet_NaN(),
                             std::numeric_limits<double>::infinity(),
                             -std::numeric_limits<double>::infinity()};
  for (const double value : nonsense) rate.Note(value);
  EXPECT_EQ(rate.value(), 0);
  rate.Note(1000);
  for (const double value : nonsense) rate.Note(value);
  EXPECT_DOUBLE_EQ(rate.value(), 1000);
}

TEST(MeasuredRateTest, OneAbsurdValueMovesItByAnEighthAndManyToTheBounds) {
  MeasuredRate rate(1000, 1, 1e7);
  rate.Note(1e300);
  EXPECT_DOUBLE_EQ(rate.value(), 1125);
  rate.Reset();
  rate.Note(std::numeric_limits<double>::denorm_min());
  EXPECT_DOUBLE_EQ(rate.value(), 937.5);
  for (int i = 0; i < 1000; ++i) rate.Note(1e300);
  EXPECT_EQ(rate.value(), 1e7);
  for (int i = 0; i < 1000; ++i) rate.Note(1e-300);
  EXPECT_EQ(rate.value(), 1);
}

TEST(MeasuredRateTest, StaysBetweenWhatItWasToldWhateverTheOrder) {
  std::mt19937 random(1);
  for (int round = 0; round < 200; ++round) {
    MeasuredRate rate(128, 1, 1e6);
    double low = 128, high = 128;
    for (int i = 0; i < 50; ++i) {
      const double value = std::exp(std::uniform_real_distribution<double>(-20, 40)(random));
      rate.Note(value);
      low = std::max(1.0, std::min(low, value));
      high = std::min(1e6, std::max(high, value));
      ASSERT_GE(rate.value(), low);
      ASSERT_LE(rate.value(), high);
    }
  }
}

}  // namespace
}  // namespace coterie::gateway::testing
