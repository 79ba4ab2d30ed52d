#include "kernels/formats/quantize.h"

#include <cmath>
#include <cstring>
#include <random>

#include "gtest/gtest.h"
#include "kernels/formats/half.h"

namespace coterie {
namespace {

TEST(QuantizeTest, Q8_0IsWithinHalfAStepOfEveryValue) {
  std::mt19937 random(7);
  std::normal_distribution<float> normal;
  std::vector<float> values(32 * 50);
  for (size_t i = 0; i < values.size(); ++i)
    values[i] = normal(random) * std::exp2(static_cast<float>(i / 32) - 30);
  const std::vector<uint8_t> blocks = QuantizeQ8_0(values);
  ASSERT_EQ(blocks.size(), 50u * 34);
  for (size_t i = 0; i < values.size(); ++i) {
    const uint8_t* block = blocks.data() + i / 32 * 34;
    uint16_t half;
    std::memcpy(&half, block, 2);
    const float d = HalfToFloat(half);
    const float decoded = d * static_cast<float>(static_cast<int8_t>(block[2 + i % 32]));
    // Half a step, and what rounding the scale may cut off the largest value; tiny scales are multiples of
    // 2^-24.
    EXPECT_LE(std::fabs(decoded - values[i]), d * 0.5f + 127 * (d * 0x1p-11f + 0x1p-25f)) << values[i];
  }
}

TEST(QuantizeTest, ABlockOfZerosStaysZero) {
  EXPECT_EQ(QuantizeQ8_0(std::vector<float>(32, 0.0f)), std::vector<uint8_t>(34, 0));
}

}  // namespace
}  // namespace coterie
