#include "router/quantized_rows.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "kernels/formats/half.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace coterie::router_internal {
namespace {

bool HasVnni() {
#if defined(__x86_64__)
  return __builtin_cpu_supports("avx512vnni");
#else
  return false;
#endif
}

// The least bfloat16 that is not below x, for a finite x >= 0.
uint16_t Bf16Above(double x) {
  auto rounded = static_cast<float>(x);
  if (static_cast<double>(rounded) < x)
    rounded = std::nextafter(rounded, std::numeric_limits<float>::infinity());
  return static_cast<uint16_t>((FloatToBits(rounded) + 0xffff) >> 16);
}

struct Quantized {
  float scale = 0;
  double norm = 0;            // |x|
  double quantized_norm = 0;  // |x'|
  double residual = 0;        // |x - x'|
  int32_t sum = 0;
};

// values[i * step ... ] in groups of four, as the block layout wants it: value i goes to (i / 4) * group + i
// % 4.
Quantized Quantize(std::span<const float> x, size_t group, int8_t* values) {
  Quantized result;
  float largest = 0;
  for (const float v : x) largest = std::max(largest, std::abs(v));
  // Never below: values stay within 127.
  result.scale = Bf16ToFloat(Bf16Above(static_cast<double>(largest) / 127));
  double norm = 0, quantized_norm = 0, residual = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    const int q = result.scale > 0 ? static_cast<int>(std::lrint(x[i] / result.scale)) : 0;
    const int clamped = std::clamp(q, -127, 127);
    values[i / 4 * group + i % 4] = static_cast<int8_t>(clamped);
    result.sum += clamped;
    const double back = static_cast<double>(result.scale) * clamped;
    norm += static_cast<double>(x[i]) * x[i];
    quantized_norm += back * back;
    residual += (x[i] - back) * (x[i] - back);
  }
  result.norm = std::sqrt(norm);
  result.quantized_norm = std::sqrt(quantized_norm);
  result.residual = std::sqrt(residual);
  return result;
}

#if defined(__x86_64__)
// dots[16] of one block with the query; its int8 values stand in four-byte groups.
// The instruction wants one side without sign: the query is shifted by 128, and 128 x the row's sum is taken
// off.
__attribute__((target("avx512f,avx512vnni"))) void DotBlockVnni(const int8_t* block,
                                                                const uint8_t* shifted_query, size_t stride,
                                                                const int32_t* offsets, int32_t* dots) {
  __m512i even = _mm512_setzero_si512(), odd = _mm512_setzero_si512();  // two chains hide the latency
  const auto group = [&](size_t i) __attribute__((target("avx512f,avx512vnni"))) {
    int32_t four;
    std::memcpy(&four, shifted_query + i, sizeof(four));
    return _mm512_set1_epi32(four);
  };
  for (size_t i = 0; i < stride; i += 8) {
    even = _mm512_dpbusd_epi32(even, group(i), _mm512_loadu_si512(block + i * 16));
    odd = _mm512_dpbusd_epi32(odd, group(i + 4), _mm512_loadu_si512(block + (i + 4) * 16));
  }
  const __m512i offset = _mm512_loadu_si512(offsets);
  _mm512_storeu_si512(dots, _mm512_sub_epi32(_mm512_add_epi32(even, odd), offset));
}

__attribute__((target("avx2"))) void DotBlockAvx2(const int8_t* block, const int8_t* query, size_t stride,
                                                  int32_t* dots) {
  __m256i sums[4] = {_mm256_setzero_si256(), _mm256_setzero_si256(), _mm256_setzero_si256(),
                     _mm256_setzero_si256()};
  for (size_t i = 0; i < stride; i += 4) {
    int32_t four;
    std::memcpy(&four, query + i, sizeof(four));
    const __m256i q = _mm256_cvtepi8_epi16(_mm_set1_epi32(four));  // q0..q3, four times
    for (size_t quarter = 0; quarter < 4; ++quarter) {
      // Four rows of four values; pairs of products are added: two sums a row.
      const auto* rows = reinterpret_cast<const __m128i*>(block + i * 16 + quarter * 16);
      const __m256i x = _mm256_cvtepi8_epi16(_mm_loadu_si128(rows));
      sums[quarter] = _mm256_add_epi32(sums[quarter], _mm256_madd_epi16(x, q));
    }
  }
  for (size_t quarter = 0; quarter < 4; ++quarter) {
    int32_t pairs[8];
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(pairs), sums[quarter]);
    for (size_t r = 0; r < 4; ++r) dots[quarter * 4 + r] = pairs[2 * r] + pairs[2 * r + 1];
  }
}
#endif

}  // namespace

bool QuantizedRows::Supported() {
#if defined(__x86_64__)
  return __builtin_cpu_supports("avx2");
#else
  return false;
#endif
}

QuantizedRows::QuantizedRows(std::span<const float> rows, size_t stride)
    : n_rows_(rows.size() / stride), stride_(stride) {
  const size_t n_blocks = (n_rows_ + kBlockRows - 1) / kBlockRows;
  values_.assign(n_blocks * kBlockRows * stride, 0);
  if (HasVnni()) offsets_.assign(n_blocks * kBlockRows, 0);
  scales_.assign(n_blocks * kBlockRows, 0);
  norms_.assign(n_blocks * kBlockRows, 0);
  residuals_.assign(n_blocks * kBlockRows, 0);
  for (size_t r = 0; r < n_rows_; ++r) {
    int8_t* values = values_.data() + r / kBlockRows * kBlockRows * stride + r % kBlockRows * 4;
    const Quantized q = Quantize(rows.subspan(r * stride, stride), kBlockRows * 4, values);
    if (!offsets_.empty()) offsets_[r] = 128 * q.sum;
    scales_[r] = Bf16Above(q.scale);
    norms_[r] = Bf16Above(q.quantized_norm);
    residuals_[r] = Bf16Above(q.residual);
  }
}

QuantizedRows::Query QuantizedRows::Prepare(std::span<const float> query) {
  Query prepared;
  prepared.values.resize(query.size());
  const Quantized q = Quantize(query, 4, prepared.values.data());
  prepared.near_unit_norm = q.norm > 0.5 && q.norm < 2;
  prepared.shifted.resize(query.size());
  for (size_t i = 0; i < query.size(); ++i)
    prepared.shifted[i] = static_cast<uint8_t>(prepared.values[i] + 128);
  prepared.scale = q.scale;
  prepared.norm = static_cast<float>(q.norm);
  prepared.residual = static_cast<float>(q.residual);
  return prepared;
}

void QuantizedRows::Bounds(const Query& query, float* lower, float* upper, bool use_vnni) const {
#if defined(__x86_64__)
  // For what rounding adds, here and in DotRows: about 30 roundings of 6e-8 each on a sum of at most 2.
  constexpr float kSlack = 1e-5f;
  const bool vnni = use_vnni && !offsets_.empty();
  for (size_t begin = 0; begin < n_rows_; begin += kBlockRows) {
    int32_t dots[kBlockRows];
    if (vnni) {
      DotBlockVnni(values_.data() + begin * stride_, query.shifted.data(), stride_, offsets_.data() + begin,
                   dots);
    } else {
      DotBlockAvx2(values_.data() + begin * stride_, query.values.data(), stride_, dots);
    }
    const size_t n = std::min(kBlockRows, n_rows_ - begin);
    for (size_t r = 0; r < n; ++r) {
      const float score = Bf16ToFloat(scales_[begin + r]) * query.scale * static_cast<float>(dots[r]);
      const float error = Bf16ToFloat(residuals_[begin + r]) * query.norm +
                          Bf16ToFloat(norms_[begin + r]) * query.residual + kSlack;
      lower[begin + r] = score - error;
      upper[begin + r] = score + error;
    }
  }
#endif
}

}  // namespace coterie::router_internal
