#ifndef COTERIE_KERNELS_TOKEN_WEIGHTS_H_
#define COTERIE_KERNELS_TOKEN_WEIGHTS_H_

#include <bit>
#include <cstdint>

namespace coterie {

// The arithmetic of sampling, for the CPU and for devices: the same bits everywhere. Only additions,
// multiplications, divisions and comparisons in a fixed order, never a fused one, and no function of the C
// library, which promises no bits. (constexpr, so that device code may call it, too.)
//
// Weights exp(-distance) are added up as whole numbers of units, without any rounding: a sum is the same in
// whatever order and in however many parts it is computed. What is below half a unit has no mass and is never
// drawn: tokens at a distance of more than 29.2, of which a whole vocabulary has less than 10^-6 of the mass.

// exp(-distance) for distance >= 0; relative error below 3e-7; 0 from a distance of 87 on. Float and Int are
// float and int32_t, or vectors of them.
template <class Float, class Int>
constexpr Float ExpOfNegative(Float distance) {
  constexpr float kZeroFrom = 87.0f;
  constexpr float kLog2E = 1.44269504f;
  constexpr float kLn2High = 0.693359375f;  // few bits, so that n · kLn2High is exact
  constexpr float kLn2Low = -2.12194440e-4f;
  constexpr float kRound = 12582912.0f;  // 1.5 · 2^23: adding it rounds to the nearest whole number
  // e^x = 2^n · e^r with |r| <= ln 2 / 2, e^r by Taylor's polynomial of degree 7, whose remainder there is
  // below 6e-9.
  const Float x = -(distance < kZeroFrom ? distance : Float{} + kZeroFrom);
  const Float shifted = x * kLog2E + kRound;
  const Float n = shifted - kRound;
  const Float r = (x - n * kLn2High) - n * kLn2Low;
  Float p = Float{} + 1.0f / 5040;
  p = p * r + 1.0f / 720;
  p = p * r + 1.0f / 120;
  p = p * r + 1.0f / 24;
  p = p * r + 1.0f / 6;
  p = p * r + 0.5f;
  p = p * r + 1.0f;
  p = p * r + 1.0f;
  // The low bits of `shifted` hold n, which is added to the exponent.
  const Float e = std::bit_cast<Float>(std::bit_cast<Int>(p) + (std::bit_cast<Int>(shifted) << 23));
  return distance < kZeroFrom ? e : Float{};
}

// Units of a weight of 1: 2^22 tokens of it are 2^63.
constexpr int kUnitBits = 41;
constexpr int kMaxSampledVocabulary = 1 << 22;
constexpr float kNoMassFrom = 32.0f;  // a distance from which on weights are certainly below half a unit

// Adding it to a weight of at most 1,024 rounds to whole units, ties to even, which then are the sum's low
// bits.
constexpr double kUnitRound = 1.5 * (uint64_t{1} << (52 - kUnitBits));
constexpr uint64_t MassOf(float weight) {
  return std::bit_cast<uint64_t>(kUnitRound + static_cast<double>(weight)) -
         std::bit_cast<uint64_t>(kUnitRound);
}
constexpr double WeightOfMass(uint64_t mass) {
  return static_cast<double>(mass) / static_cast<double>(uint64_t{1} << kUnitBits);
}

// The mass that top-p < 1 keeps of `total`, at least 1.
constexpr uint64_t NucleusMass(float top_p, uint64_t total) {
  const double wanted = static_cast<double>(top_p) * static_cast<double>(total);
  uint64_t mass = static_cast<uint64_t>(wanted);
  if (static_cast<double>(mass) < wanted) ++mass;
  return mass > 0 ? mass : 1;
}

// The token that is drawn is the first at which the running mass exceeds this. Below `total`; `random` is 64
// random bits.
constexpr uint64_t DrawTarget(uint64_t random, uint64_t total) {
  __extension__ using Wide = unsigned __int128;
  return static_cast<uint64_t>((static_cast<Wide>(random) * total) >> 64);
}

// log x of a normal x > 0, within 1e-12 of it: x = 2^n · m with m in [√½, √2), and log m by the series of
// 2 artanh((m - 1) / (m + 1)), of which the first term left out is below 3e-13.
constexpr double LogOf(double x) {
  constexpr double kLn2 = 0.69314718055994530942;
  constexpr uint64_t kHalfRoot = 0x3FE6A09E667F3BCD;  // √½
  const uint64_t bits = std::bit_cast<uint64_t>(x);
  const int64_t n = static_cast<int64_t>(bits - kHalfRoot) >> 52;
  const double m = std::bit_cast<double>(bits - (static_cast<uint64_t>(n) << 52));
  const double s = (m - 1) / (m + 1);
  const double square = s * s;
  double series = 1.0 / 15;
  series = series * square + 1.0 / 13;
  series = series * square + 1.0 / 11;
  series = series * square + 1.0 / 9;
  series = series * square + 1.0 / 7;
  series = series * square + 1.0 / 5;
  series = series * square + 1.0 / 3;
  series = series * square + 1.0;
  return static_cast<double>(n) * kLn2 + 2 * s * series;
}

// The logit of a mixture's token of probability `p` (kernels/cpu/mixture.h): log p, at least kLeastMixed,
// which stands for probabilities too small to change a draw.
constexpr float kLeastMixed = -150.0f;
constexpr float MixedLogit(double p) {
  constexpr double kSmallest = 1e-60;  // far below what a float's exponential can be
  if (p < kSmallest) return kLeastMixed;
  const float logit = static_cast<float>(LogOf(p));
  return logit > kLeastMixed ? logit : kLeastMixed;
}

}  // namespace coterie

#endif  // COTERIE_KERNELS_TOKEN_WEIGHTS_H_
