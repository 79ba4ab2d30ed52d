#include "kernels/formats/quantize.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "common/check.h"
#include "kernels/formats/half.h"

// A base has billions of weights: the loops over a block are written so that the compiler makes vectors of
// them, for any x86-64.
namespace coterie {
namespace {

constexpr int kBlock = 32;

// std::rint for magnitudes below 2^22, without a call.
inline float NearestInteger(float x) {
  constexpr float kShift = 0x1.8p23f;
  return (x + kShift) - kShift;
}

// The largest magnitude. Magnitudes are ordered as their bits are, with infinities and NaN above all.
float Most(std::span<const float> values) {
  int32_t most = 0;
  for (const float x : values) most = std::max(most, static_cast<int32_t>(FloatToBits(x) & 0x7fffffff));
  return BitsToFloat(static_cast<uint32_t>(most));
}

void QuantizeQ8_0(const float* x, uint8_t* to) {
  const uint16_t half = FloatToHalf(Most({x, kBlock}) / 127.0f);
  const float d = HalfToFloat(half);
  std::memcpy(to, &half, sizeof(half));
  if (d == 0) {
    std::memset(to + 2, 0, kBlock);
    return;
  }
  int32_t code[kBlock];
  for (int i = 0; i < kBlock; ++i) {
    code[i] = static_cast<int32_t>(NearestInteger(std::min(std::max(x[i] / d, -127.0f), 127.0f)));
  }
  for (int i = 0; i < kBlock; ++i) to[2 + i] = static_cast<uint8_t>(code[i]);
}

void QuantizeQ4_1(const float* x, uint8_t* to) {
  float low = x[0], high = x[0];
  for (int i = 1; i < kBlock; ++i) {
    low = std::min(low, x[i]);
    high = std::max(high, x[i]);
  }
  const uint16_t m_half = FloatToHalf(low);
  const float m = HalfToFloat(m_half);
  const uint16_t d_half = FloatToHalf(std::max(0.0f, high - m) / 15.0f);
  const float d = HalfToFloat(d_half);
  std::memcpy(to, &d_half, sizeof(d_half));
  std::memcpy(to + 2, &m_half, sizeof(m_half));
  if (d == 0) {
    std::memset(to + 4, 0, kBlock / 2);
    return;
  }
  int32_t code[kBlock];
  for (int i = 0; i < kBlock; ++i) {
    code[i] = static_cast<int32_t>(NearestInteger(std::min(std::max((x[i] - m) / d, 0.0f), 15.0f)));
  }
  for (int i = 0; i < kBlock / 2; ++i) to[4 + i] = static_cast<uint8_t>(code[i] | code[i + kBlock / 2] << 4);
}

}  // namespace

Status Quantize(DType type, std::span<const float> values, uint8_t* blocks) {
  COTERIE_CHECK(CanQuantizeTo(type)) << DTypeName(type);
  COTERIE_CHECK_EQ(values.size() % kBlock, 0u) << "values of " << DTypeName(type) << " blocks";
  const float limit = LargestQuantizable(type);
  if (!(Most(values) <= limit)) {
    const auto bad =
        std::find_if(values.begin(), values.end(), [&](float x) { return !(std::fabs(x) <= limit); });
    return absl::InvalidArgumentError(absl::StrCat("a weight is ", *bad, "; ", ToAbsl(DTypeName(type)),
                                                   " holds finite values up to ", limit));
  }
  for (size_t begin = 0; begin < values.size(); begin += kBlock, blocks += BlockBytes(type)) {
    (type == DType::kQ8_0 ? QuantizeQ8_0 : QuantizeQ4_1)(values.data() + begin, blocks);
  }
  return absl::OkStatus();
}

}  // namespace coterie
