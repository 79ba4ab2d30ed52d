#include "kernels/cpu/mixture.h"

#include <algorithm>
#include <cmath>

#include "common/check.h"
#include "kernels/cpu/vector_math.h"
#include "kernels/token_weights.h"

namespace coterie::cpu {

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
  ExpOfNegatives(distances_, distances_);
  const double share = static_cast<double>(weight) / WeightOfMass(MassOfAll(distances_));
  for (size_t i = 0; i < p_.size(); ++i) p_[i] += share * static_cast<double>(distances_[i]);
}

std::span<const float> Mixture::Logits() {
  for (size_t i = 0; i < p_.size(); ++i) logits_[i] = MixedLogit(p_[i]);
  if (!finite_) std::fill(logits_.begin(), logits_.end(), NAN);
  return logits_;
}

}  // namespace coterie::cpu
