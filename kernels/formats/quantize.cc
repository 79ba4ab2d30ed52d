#include "kernels/formats/quantize.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "common/check.h"
#include "kernels/formats/half.h"

namespace coterie {

std::vector<uint8_t> QuantizeQ8_0(std::span<const float> values) {
  constexpr size_t kBlock = 32;
  constexpr size_t kBlockBytes = 2 + kBlock;
  COTERIE_CHECK_EQ(values.size() % kBlock, 0u) << "values of Q8_0 blocks";
  std::vector<uint8_t> blocks(values.size() / kBlock * kBlockBytes);
  uint8_t* to = blocks.data();
  for (size_t begin = 0; begin < values.size(); begin += kBlock, to += kBlockBytes) {
    const std::span<const float> block = values.subspan(begin, kBlock);
    float most = 0;
    for (const float x : block) most = std::fabs(x) <= most ? most : std::fabs(x);  // NaN stays
    const uint16_t half = FloatToHalf(most / 127.0f);
    const float d = HalfToFloat(half);
    COTERIE_CHECK(most <= kMaxQ8_0) << "a weight of " << most << " in Q8_0";
    std::memcpy(to, &half, sizeof(half));
    for (size_t i = 0; i < kBlock; ++i) {
      const float code = d == 0 ? 0.0f : std::clamp(std::rint(block[i] / d), -127.0f, 127.0f);
      to[2 + i] = static_cast<uint8_t>(static_cast<int8_t>(code));
    }
  }
  return blocks;
}

}  // namespace coterie
