#include "kernels/formats/quantize.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "gtest/gtest.h"
#include "kernels/formats/dequantize.h"
#include "kernels/formats/half.h"
#include "tests/model/format/expect_refused.h"
#include "tests/testing/random_matrix.h"

namespace coterie {
namespace {

constexpr float kPlusInfinity = std::numeric_limits<float>::infinity();
constexpr float kQuietNaN = std::numeric_limits<float>::quiet_NaN();

std::vector<uint8_t> RoundedBlocks(DType type, std::span<const float> values) {
  std::vector<uint8_t> blocks(static_cast<size_t>(RowBytes(type, std::ssize(values))));
  const Status status = Quantize(type, values, blocks.data());
  EXPECT_TRUE(status.ok()) << status;
  return blocks;
}

std::vector<float> DecodedBlocks(DType type, std::span<const uint8_t> blocks) {
  std::vector<float> values(blocks.size() / static_cast<size_t>(BlockBytes(type)) * 32);
  Dequantize(type, blocks.data(), std::ssize(values), values.data());
  return values;
}

// The rule of the header, word by word.
std::vector<uint8_t> ByTheRule(DType type, std::span<const float> x) {
  const auto [low, high] = std::minmax_element(x.begin(), x.end());
  const bool signed_codes = type == DType::kQ8_0;
  const uint16_t m_half = FloatToHalf(*low);
  const float m = signed_codes ? 0.0f : HalfToFloat(m_half);
  const float most = std::max(std::fabs(*low), std::fabs(*high));
  const uint16_t d_half = FloatToHalf(signed_codes ? most / 127.0f : std::max(0.0f, *high - m) / 15.0f);
  const float d = HalfToFloat(d_half);
  std::vector<int> codes;
  for (const float v : x) {
    const float code = d == 0 ? 0.0f : std::rint((v - m) / d);
    codes.push_back(
        static_cast<int>(signed_codes ? std::clamp(code, -127.0f, 127.0f) : std::clamp(code, 0.0f, 15.0f)));
  }
  std::vector<uint8_t> block(2);
  std::memcpy(block.data(), &d_half, 2);
  if (signed_codes) {
    for (const int code : codes) block.push_back(static_cast<uint8_t>(code));
    return block;
  }
  block.resize(4);
  std::memcpy(block.data() + 2, &m_half, 2);
  for (size_t i = 0; i < 16; ++i) block.push_back(static_cast<uint8_t>(codes[i] | codes[i + 16] << 4));
  return block;
}

// Values of every size, of one sign or both.
std::vector<float> RandomBlock(testing::Random* random) {
  std::vector<float> values = random->Normals(32, std::exp2(static_cast<float>(random->Int(-40, 12))));
  const int kind = random->Int(0, 5);
  for (float& v : values) {
    if (kind == 0) v = std::fabs(v);
    if (kind == 1) v = -std::fabs(v);
    if (kind == 2) v = values[0];
    if (kind == 3 && random->Int(0, 1) == 0) v = 0;
  }
  return values;
}

TEST(QuantizeTest, EveryBlockIsThatOfTheRule) {
  testing::Random random;
  for (int i = 0; i < 20000; ++i) {
    const std::vector<float> values = RandomBlock(&random);
    for (const DType type : {DType::kQ8_0, DType::kQ4_1}) {
      ASSERT_EQ(RoundedBlocks(type, values), ByTheRule(type, values)) << DTypeName(type) << ", block " << i;
    }
  }
}

TEST(QuantizeTest, ValuesAreWithinHalfAStepOfWhatTheyAreRoundedTo) {
  testing::Random random;
  for (int i = 0; i < 2000; ++i) {
    const std::vector<float> values = RandomBlock(&random);
    for (const DType type : {DType::kQ8_0, DType::kQ4_1}) {
      const std::vector<uint8_t> block = RoundedBlocks(type, values);
      const std::vector<float> decoded = DecodedBlocks(type, block);
      const float d = HalfToFloat(LoadU16(block.data()));
      const float most = std::fabs(*std::max_element(
          values.begin(), values.end(), [](float a, float b) { return std::fabs(a) < std::fabs(b); }));
      // Half a step, and what rounding scale and minimum to binary16 may cut off the ends; what is tiny is a
      // multiple of 2^-24.
      const float slack = most * 0x1p-9f + 0x1p-18f;
      for (size_t k = 0; k < 32; ++k) ASSERT_LE(std::fabs(decoded[k] - values[k]), d * 0.5f + slack);
    }
  }
}

// What other tools do (ggml's reference and the `gguf` package): codes from the scale before it is rounded.
TEST(QuantizeTest, TheErrorIsNoMoreThanThatOfCodesFromTheUnroundedScale) {
  testing::Random random;
  double ours = 0, theirs = 0;
  for (int i = 0; i < 20000; ++i) {
    const std::vector<float> values = random.Normals(32, 0.05f);
    const auto [low, high] = std::minmax_element(values.begin(), values.end());
    const float step = (*high - *low) / 15;
    const float d = HalfToFloat(FloatToHalf(step)), m = HalfToFloat(FloatToHalf(*low));
    const std::vector<float> decoded = DecodedBlocks(DType::kQ4_1, RoundedBlocks(DType::kQ4_1, values));
    for (size_t k = 0; k < 32; ++k) {
      const float code = std::min(15.0f, std::floor((values[k] - *low) * (1 / step) + 0.5f));
      theirs += std::pow(static_cast<double>(d * code + m - values[k]), 2);
      ours += std::pow(static_cast<double>(decoded[k] - values[k]), 2);
    }
  }
  EXPECT_LT(ours, theirs);
}

TEST(QuantizeTest, ABlockOfZerosStaysZero) {
  const std::vector<float> zeros(32, 0.0f);
  EXPECT_EQ(RoundedBlocks(DType::kQ8_0, zeros), std::vector<uint8_t>(34, 0));
  EXPECT_EQ(RoundedBlocks(DType::kQ4_1, zeros), std::vector<uint8_t>(20, 0));
}

TEST(QuantizeTest, TheLargestValuesOfATypeAreHeldAndLargerOnesRefused) {
  for (const DType type : {DType::kQ8_0, DType::kQ4_1}) {
    const float limit = LargestQuantizable(type);
    for (const float sign : {1.0f, -1.0f}) {
      std::vector<float> values(64, 0.0f);
      values[40] = sign * limit;
      const std::vector<float> decoded = DecodedBlocks(type, RoundedBlocks(type, values));
      EXPECT_NEAR(decoded[40], values[40], limit * 0x1p-9f) << DTypeName(type);
      std::vector<uint8_t> blocks(68);
      for (const float bad : {sign * std::nextafter(limit, kPlusInfinity), sign * kPlusInfinity, kQuietNaN}) {
        values[40] = bad;
        EXPECT_REFUSED(
            Quantize(type, values, blocks.data()), kInvalid,
            absl::StrCat("a weight is ", bad, "; ", ToAbsl(DTypeName(type)), " holds finite values up to"));
      }
    }
  }
}

}  // namespace
}  // namespace coterie
