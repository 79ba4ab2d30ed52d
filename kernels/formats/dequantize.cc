#include "kernels/formats/dequantize.h"

#include <cstring>

#include "common/check.h"
#include "kernels/formats/block_codes.h"
#include "kernels/formats/half.h"

namespace coterie {
namespace {

void DequantizeBlocks(DType dtype, const uint8_t* data, int64_t n, float* out) {
  const int offset = CodeOffset(dtype);
  const bool has_minimum = HasMinimum(dtype);
  for (int64_t block = 0; block < n / 32; ++block, out += 32) {
    const BlockCodes b = ReadBlock(dtype, data, block);
    for (int i = 0; i < 32; ++i) out[i] = b.d[i / 16] * static_cast<float>(b.code[i] - offset);
    if (!has_minimum) continue;  // -0 + 0 would lose its sign
    for (int i = 0; i < 32; ++i) out[i] += b.m;
  }
}

}  // namespace

void Dequantize(DType dtype, const uint8_t* data, int64_t n, float* out) {
  COTERIE_CHECK_EQ(n % BlockElements(dtype), 0) << "values of " << DTypeName(dtype);
  switch (dtype) {
    case DType::kF32:
      if (n > 0) std::memcpy(out, data, static_cast<size_t>(n) * sizeof(float));
      return;
    case DType::kF16:
      for (int64_t i = 0; i < n; ++i) out[i] = HalfToFloat(LoadU16(data + 2 * i));
      return;
    case DType::kBF16:
      for (int64_t i = 0; i < n; ++i) out[i] = Bf16ToFloat(LoadU16(data + 2 * i));
      return;
    default:
      DequantizeBlocks(dtype, data, n, out);
  }
}

}  // namespace coterie
