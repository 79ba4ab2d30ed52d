#include "common/random.h"

#include "gtest/gtest.h"

namespace coterie {
namespace {

TEST(RandomTest, MixGivesTheNumbersOfSplitmix64) {
  // The first three of the generator that starts at 1234567: multiples of the golden ratio, mixed.
  uint64_t state = 1234567;
  for (const uint64_t expected : {6457827717110365317u, 3203168211198807973u, 9817491932198370423u}) {
    EXPECT_EQ(Mix(state += 0x9e3779b97f4a7c15u), expected);
  }
}

TEST(RandomTest, TheUnitIntervalHoldsItsLowerEndAndNotItsUpper) {
  EXPECT_EQ(ToUnitInterval(0), 0.0);
  EXPECT_EQ(ToUnitInterval(uint64_t{1} << 63), 0.5);
  EXPECT_EQ(ToUnitInterval(~uint64_t{0}), 1 - 0x1p-53);
}

TEST(RandomTest, SeedsDiffer) { EXPECT_NE(DrawSeed(), DrawSeed()); }

}  // namespace
}  // namespace coterie
