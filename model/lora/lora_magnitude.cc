#include "model/lora/lora_magnitude.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "kernels/formats/half.h"

namespace coterie {
namespace {

double ValueAt(const TensorView& tensor, int64_t i) {
  const uint8_t* p = tensor.bytes.data();
  if (tensor.dtype == DType::kF32) {
    float value;
    std::memcpy(&value, p + 4 * i, sizeof value);
    return static_cast<double>(value);
  }
  const uint16_t half = LoadU16(p + 2 * i);
  return static_cast<double>(tensor.dtype == DType::kF16 ? HalfToFloat(half) : Bf16ToFloat(half));
}

}  // namespace

double LargestTerm(const TensorView& a, const TensorView& b, double scale) {
  const auto rank = static_cast<size_t>(a.shape[0]);
  const auto n_in = static_cast<size_t>(a.shape[1]);
  const auto n_out = static_cast<size_t>(b.shape[0]);
  // Squares of float32's values stay within float64.
  std::vector<double> rows(rank, 0.0);
  std::vector<double> columns(rank, 0.0);
  for (size_t r = 0; r < rank; ++r) {
    for (size_t k = 0; k < n_in; ++k) {
      const double v = ValueAt(a, static_cast<int64_t>(r * n_in + k));
      rows[r] += v * v;
    }
  }
  for (size_t n = 0; n < n_out; ++n) {
    for (size_t r = 0; r < rank; ++r) {
      const double v = ValueAt(b, static_cast<int64_t>(n * rank + r));
      columns[r] += v * v;
    }
  }
  double largest = 0;
  for (size_t r = 0; r < rank; ++r) {
    largest = std::max(largest, std::fabs(scale) * std::sqrt(rows[r]) * std::sqrt(columns[r]));
  }
  return largest;
}

// An exponent of all ones is infinity or NaN.
TensorValues InspectValues(const TensorView& tensor) {
  const uint8_t* p = tensor.bytes.data();
  const int64_t n = tensor.n_elements();
  if (tensor.dtype == DType::kF32) {
    uint32_t any = 0;
    bool finite = true;
    for (int64_t i = 0; i < n; ++i) {
      const uint32_t v = LoadU32(p + 4 * i) & 0x7fffffff;
      any |= v;
      finite &= v < 0x7f800000;
    }
    return {finite, any == 0};
  }
  const uint32_t infinity = tensor.dtype == DType::kF16 ? 0x7c00 : 0x7f80;
  uint32_t any = 0;
  bool finite = true;
  for (int64_t i = 0; i < n; ++i) {
    const uint32_t v = LoadU16(p + 2 * i) & 0x7fff;
    any |= v;
    finite &= v < infinity;
  }
  return {finite, any == 0};
}

}  // namespace coterie
