#include "tests/bench/made_weights.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "kernels/formats/half.h"
#include "tests/bench/made_adapter.h"

namespace coterie::bench {
namespace {

constexpr size_t kPoolBytes = size_t{2} << 20;  // stays in a core's second cache

// Deviation of codes that are equally likely from 0 to n - 1.
double CodeDeviation(int n) { return std::sqrt((static_cast<double>(n) * n - 1) / 12); }

// Draws blocks of one type. Layouts: kernels/formats/block_codes.cc.
class BlockMaker {
 public:
  BlockMaker(DType dtype, double deviation, uint64_t seed)
      : dtype_(dtype), deviation_(deviation), state_(seed), normal_(seed) {}

  void Write(uint8_t* block) {
    switch (dtype_) {
      case DType::kF32: {
        const auto value = static_cast<float>(normal_() * deviation_);
        std::memcpy(block, &value, sizeof value);
        return;
      }
      case DType::kF16:
        return Put(block, FloatToHalf(static_cast<float>(normal_() * deviation_)));
      case DType::kBF16:
        return Put(block, FloatToBf16(static_cast<float>(normal_() * deviation_)));
      case DType::kQ8_0:
        Put(block, Scale(CodeDeviation(255)));
        Bytes(block + 2, 32);
        std::replace(block + 2, block + 34, uint8_t{0x80}, uint8_t{0});  // no file has -128
        return;
      case DType::kQ4_0:
        Put(block, Scale(CodeDeviation(16)));
        return Bytes(block + 2, 16);
      case DType::kQ4_1:
        WithMinimum(block, 16);
        return Bytes(block + 4, 16);
      case DType::kQ5_0:
        Put(block, Scale(CodeDeviation(32)));
        return Bytes(block + 2, 20);
      case DType::kQ5_1:
        WithMinimum(block, 32);
        return Bytes(block + 4, 20);
      case DType::kQ4_K:
        WithMinimum(block, 16, kMeanScale);
        ScalePairs(block + 4);
        return Bytes(block + 16, 128);
      case DType::kQ5_K:
        WithMinimum(block, 32, kMeanScale);
        ScalePairs(block + 4);
        return Bytes(block + 16, 160);
      case DType::kQ3_K:
        Bytes(block, 108);
        return Put(block + 108, Scale(CodeDeviation(8) * CodeDeviation(64)));
      case DType::kIQ4_NL:
        Put(block, Scale(kUnequalDeviation));
        return Bytes(block + 2, 16);
      case DType::kQ6_K:
        Bytes(block, 192);
        for (int i = 0; i < 16; ++i) {  // of either sign
          block[192 + i] = static_cast<uint8_t>((i % 2 == 0 ? 1 : -1) * (32 + static_cast<int>(Draw() % 32)));
        }
        return Put(block + 208, Scale(CodeDeviation(64) * kMeanScale));
    }
  }

 private:
  static constexpr double kMeanScale = 47.5;         // of codes from 32 to 63
  static constexpr double kUnequalDeviation = 67.4;  // of the sixteen values of IQ4_NL

  uint64_t Draw() { return MixBits(state_ += 0x9E3779B97F4A7C15ULL); }
  void Bytes(uint8_t* to, int n) {
    for (int i = 0; i < n; i += 4) {
      const auto bits = static_cast<uint32_t>(Draw());
      std::memcpy(to + i, &bits, sizeof bits);
    }
  }
  static void Put(uint8_t* to, uint16_t bits) { std::memcpy(to, &bits, sizeof bits); }
  // About what gives values their deviation, from block to block a little more or less.
  double Step(double code_deviation) {
    return deviation_ / code_deviation * (0.75 + 0.5 * static_cast<double>(Draw() % 256) / 255);
  }
  uint16_t Scale(double code_deviation) { return FloatToHalf(static_cast<float>(Step(code_deviation))); }
  // Scale and minimum of codes below `n`, so that values are as often above 0 as below. `factor`: of the
  // scales and of the minima within the block.
  void WithMinimum(uint8_t* block, int n, double factor = 0) {
    const double step = Step(CodeDeviation(n) * (factor > 0 ? factor : 1));
    const double middle = step * (n - 1) / 2;
    Put(block, FloatToHalf(static_cast<float>(step)));
    Put(block + 2, FloatToHalf(static_cast<float>(factor > 0 ? middle : -middle)));  // K types subtract it
  }
  // Eight pairs of six bits in twelve bytes; scale and minimum are equal, so that the middle stays at 0.
  void ScalePairs(uint8_t* p) {
    int codes[8];
    for (int& code : codes) code = 32 + static_cast<int>(Draw() % 32);
    for (int j = 0; j < 4; ++j) {
      p[j] = p[j + 4] = static_cast<uint8_t>(codes[j] | codes[j + 4] >> 4 << 6);
      p[j + 8] = static_cast<uint8_t>((codes[j + 4] & 15) * 17);
    }
  }

  const DType dtype_;
  const double deviation_;
  uint64_t state_;
  Normal normal_;
};

}  // namespace

uint64_t MixBits(uint64_t x) {
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9ULL;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBULL;
  return x ^ (x >> 31);
}

WeightPool::WeightPool(DType dtype, double deviation, uint64_t seed)
    : dtype_(dtype),
      n_blocks_(static_cast<int64_t>(kPoolBytes) / BlockBytes(dtype)),
      blocks_(static_cast<size_t>(n_blocks_ * BlockBytes(dtype))) {
  BlockMaker maker(dtype, deviation, seed);
  for (int64_t i = 0; i < n_blocks_; ++i) maker.Write(blocks_.data() + i * BlockBytes(dtype));
}

void WeightPool::FillRow(uint64_t row_seed, int64_t n, uint8_t* row) const {
  auto at = static_cast<int64_t>(MixBits(row_seed) % static_cast<uint64_t>(n_blocks_));
  for (int64_t left = n / BlockElements(dtype_); left > 0;) {
    const int64_t piece = std::min(left, n_blocks_ - at);
    const int64_t bytes = piece * BlockBytes(dtype_);
    std::memcpy(row, blocks_.data() + at * BlockBytes(dtype_), static_cast<size_t>(bytes));
    row += bytes;
    left -= piece;
    at = 0;
  }
}

}  // namespace coterie::bench
