#include "kernels/cpu/mixture.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>

#include "common/check.h"
#include "kernels/cpu/vector_math.h"

namespace coterie::cpu {
namespace {

// log x of a normal x > 0, within 1e-12 of it: x = 2^n · m with m in [√½, √2), and log m by the series of
// 2 artanh((m - 1) / (m + 1)), of which the first term left out is below 3e-13.
double LogOf(double x) {
  constexpr double kLn2 = 0.69314718055994530942;
  const auto bits = std::bit_cast<uint64_t>(x);
  constexpr uint64_t kHalfRoot = 0x3FE6A09E667F3BCD;  // √½
  const int64_t n = static_cast<int64_t>(bits - kHalfRoot) >> 52;
  const double m = std::bit_cast<double>(bits - (static_cast<uint64_t>(n) << 52));
  const double s = (m - 1) / (m + 1);
  const double square = s * s;
  double series = 1.0 / 15;
  for (const double term : {1.0 / 13, 1.0 / 11, 1.0 / 9, 1.0 / 7, 1.0 / 5, 1.0 / 3, 1.0}) {
    series = series * square + term;
  }
  return static_cast<double>(n) * kLn2 + 2 * s * series;
}

}  // namespace

Mixture::Mixture(int vocab_size)
    : p_(static_cast<size_t>(vocab_size)),
      distances_(static_cast<size_t>(vocab_size)),
      logits_(static_cast<size_t>(vocab_size)) {}

void Mixture::Begin() {
  std::fill(p_.begin(), p_.end(), 0.0);
  finite_ = true;
}

void Mixture::Add(std::span<const float> logits, float weight) {
  COTERIE_CHECK_EQ(logits.size(), p_.size());
  const float top = MaxIfFinite(logits);
  if (std::isnan(top)) {
    finite_ = false;
    return;
  }
  DistancesBelow(top, logits, 1.0f, distances_);
  ExpOfNegative(distances_, distances_);
  const double share = static_cast<double>(weight) / SumOf(distances_);
  for (size_t i = 0; i < p_.size(); ++i) p_[i] += share * static_cast<double>(distances_[i]);
}

std::span<const float> Mixture::Logits() {
  constexpr double kSmallest = 1e-60;  // far below what a float's exponential can be
  for (size_t i = 0; i < p_.size(); ++i) {
    logits_[i] = p_[i] < kSmallest ? kLeast : std::max(kLeast, static_cast<float>(LogOf(p_[i])));
  }
  if (!finite_) std::fill(logits_.begin(), logits_.end(), NAN);
  return logits_;
}

}  // namespace coterie::cpu
