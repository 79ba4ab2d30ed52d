// Dequantised blocks against the `gguf` package's, bit for bit (make_dequant.py).
#include "kernels/formats/dequantize.h"

#include <bit>

#include "gtest/gtest.h"
#include "tests/golden/golden_arrays.h"

namespace coterie {
namespace {

class DequantizeGoldenTest : public ::testing::TestWithParam<int> {};

TEST_P(DequantizeGoldenTest, EqualsTheReferenceBitForBit) {
  const auto type = static_cast<DType>(GetParam());
  const std::string name(DTypeName(type));
  auto arrays =
      testing::ReadGoldenArrays(std::filesystem::path(COTERIE_SOURCE_DIR) / "tests/golden/dequant.bin");
  ASSERT_TRUE(arrays.ok()) << arrays.status();
  ASSERT_TRUE(arrays->contains(name + ".bytes")) << name;
  const testing::GoldenArray& blocks = arrays->at(name + ".bytes");
  const std::vector<float> expected = arrays->at(name + ".values").As<float>();
  const auto n = static_cast<int64_t>(expected.size());
  ASSERT_EQ(static_cast<int64_t>(blocks.bytes.size()), RowBytes(type, n));
  std::vector<float> got(expected.size());
  Dequantize(type, reinterpret_cast<const uint8_t*>(blocks.bytes.data()), n, got.data());
  for (size_t i = 0; i < got.size(); ++i) {
    ASSERT_EQ(std::bit_cast<uint32_t>(got[i]), std::bit_cast<uint32_t>(expected[i]))
        << name << " value " << i << ": " << got[i] << " instead of " << expected[i];
  }
}

INSTANTIATE_TEST_SUITE_P(EveryType, DequantizeGoldenTest, ::testing::Range(0, kDTypeCount),
                         [](const auto& info) {
                           return std::string(DTypeName(static_cast<DType>(info.param)));
                         });

}  // namespace
}  // namespace coterie
