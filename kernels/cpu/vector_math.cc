#include "kernels/cpu/vector_math.h"

#include <cmath>
#include <cstring>

#include "kernels/token_weights.h"

namespace coterie::cpu {
namespace {

constexpr size_t kFloatLanes = 4;
typedef float Float4 __attribute__((vector_size(16)));
typedef int32_t Int4 __attribute__((vector_size(16)));
typedef double Double4 __attribute__((vector_size(32)));
typedef uint64_t Mass4 __attribute__((vector_size(32)));

Float4 Load(const float* from) {
  Float4 v;
  std::memcpy(&v, from, sizeof(v));
  return v;
}

void Store(Float4 v, float* to) { std::memcpy(to, &v, sizeof(v)); }

Float4 All(float x) { return Float4{x, x, x, x}; }

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
  top += 0.0f;  // of -0, which is the largest beside 0, distances would be -0
  const size_t whole = logits.size() / kFloatLanes * kFloatLanes;
  for (size_t i = 0; i < whole; i += kFloatLanes) {
    Store((top - Load(logits.data() + i)) / temperature, distances.data() + i);
  }
  for (size_t i = whole; i < logits.size(); ++i) distances[i] = (top - logits[i]) / temperature;
}

void ExpOfNegatives(std::span<const float> distances, std::span<float> weights) {
  const size_t whole = distances.size() / kFloatLanes * kFloatLanes;
  for (size_t i = 0; i < whole; i += kFloatLanes) {
    Store(ExpOfNegative<Float4, Int4>(Load(distances.data() + i)), weights.data() + i);
  }
  for (size_t i = whole; i < distances.size(); ++i) {
    weights[i] = ExpOfNegative<float, int32_t>(distances[i]);
  }
}

uint64_t MassOfAll(std::span<const float> weights) {
  const size_t whole = weights.size() / kFloatLanes * kFloatLanes;
  Mass4 sums = {0, 0, 0, 0};
  for (size_t i = 0; i < whole; i += kFloatLanes) {
    const Double4 rounded = __builtin_convertvector(Load(weights.data() + i), Double4) + kUnitRound;
    Mass4 bits;
    std::memcpy(&bits, &rounded, sizeof(bits));
    sums += bits - std::bit_cast<uint64_t>(kUnitRound);
  }
  uint64_t sum = (sums[0] + sums[1]) + (sums[2] + sums[3]);
  for (size_t i = whole; i < weights.size(); ++i) sum += MassOf(weights[i]);
  return sum;
}

}  // namespace coterie::cpu
