#include "kernels/cpu/vector_math.h"

#include <cmath>
#include <cstring>

namespace coterie::cpu {
namespace {

constexpr size_t kFloatLanes = 4;
typedef float Float4 __attribute__((vector_size(16)));
typedef int32_t Int4 __attribute__((vector_size(16)));

Float4 Load(const float* from) {
  Float4 v;
  std::memcpy(&v, from, sizeof(v));
  return v;
}

void Store(Float4 v, float* to) { std::memcpy(to, &v, sizeof(v)); }

Float4 All(float x) { return Float4{x, x, x, x}; }

// exp(x) for x in [-87, 0]: 2^n · e^r with |r| <= ln 2 / 2, e^r by Taylor's polynomial of degree 7, whose
// remainder there is below 6e-9.
Float4 ExpNonPositive(Float4 x) {
  constexpr float kLog2E = 1.44269504f;
  constexpr float kLn2High = 0.693359375f;  // few bits, so that n · kLn2High is exact
  constexpr float kLn2Low = -2.12194440e-4f;
  constexpr float kRound = 12582912.0f;  // 1.5 · 2^23: adding it rounds to the nearest whole number
  const Float4 shifted = x * kLog2E + kRound;
  const Float4 n = shifted - kRound;
  const Float4 r = (x - n * kLn2High) - n * kLn2Low;
  Float4 p = All(1.0f / 5040);
  for (float c : {1.0f / 720, 1.0f / 120, 1.0f / 24, 1.0f / 6, 0.5f, 1.0f, 1.0f}) p = p * r + c;
  Int4 exponent;
  std::memcpy(&exponent, &shifted, sizeof(exponent));  // the low bits hold n
  exponent = (exponent << 23);
  Int4 bits;
  std::memcpy(&bits, &p, sizeof(bits));
  bits += exponent;
  Float4 result;
  std::memcpy(&result, &bits, sizeof(result));
  return result;
}

Float4 ExpOfNegative4(Float4 distance) {
  constexpr float kZeroFrom = 87.0f;
  const Float4 clamped = distance < kZeroFrom ? distance : All(kZeroFrom);
  const Float4 e = ExpNonPositive(-clamped);
  return distance < kZeroFrom ? e : All(0.0f);
}

}  // namespace

float MaxIfFinite(std::span<const float> values) {
  const size_t whole = values.size() / kFloatLanes * kFloatLanes;
  Float4 best = All(-INFINITY);
  Int4 bad = {0, 0, 0, 0};
  for (size_t i = 0; i < whole; i += kFloatLanes) {
    const Float4 v = Load(values.data() + i);
    best = v > best ? v : best;
    bad |= (v - v != All(0.0f));  // NaN of an infinity, too
  }
  float top = -INFINITY;
  bool any_bad = false;
  for (size_t lane = 0; lane < kFloatLanes; ++lane) {
    top = best[lane] > top ? best[lane] : top;
    any_bad |= bad[lane] != 0;
  }
  for (float v : values.subspan(whole)) {
    top = v > top ? v : top;
    any_bad |= !std::isfinite(v);
  }
  return any_bad ? NAN : top;
}

void DistancesBelow(float top, std::span<const float> logits, float temperature, std::span<float> distances) {
  const size_t whole = logits.size() / kFloatLanes * kFloatLanes;
  for (size_t i = 0; i < whole; i += kFloatLanes) {
    Store((top - Load(logits.data() + i)) / temperature, distances.data() + i);
  }
  for (size_t i = whole; i < logits.size(); ++i) distances[i] = (top - logits[i]) / temperature;
}

void ExpOfNegative(std::span<const float> distances, std::span<float> weights) {
  const size_t whole = distances.size() / kFloatLanes * kFloatLanes;
  for (size_t i = 0; i < whole; i += kFloatLanes) {
    Store(ExpOfNegative4(Load(distances.data() + i)), weights.data() + i);
  }
  for (size_t i = whole; i < distances.size(); ++i) weights[i] = ExpOfNegative4(All(distances[i]))[0];
}

double SumOf(std::span<const float> values) {
  constexpr size_t kSums = 8;
  double sums[kSums] = {};
  size_t i = 0;
  for (; i + kSums <= values.size(); i += kSums) {
    for (size_t lane = 0; lane < kSums; ++lane) sums[lane] += values[i + lane];
  }
  for (size_t lane = 0; i < values.size(); ++i, ++lane) sums[lane] += values[i];
  return ((sums[0] + sums[1]) + (sums[2] + sums[3])) + ((sums[4] + sums[5]) + (sums[6] + sums[7]));
}

}  // namespace coterie::cpu
