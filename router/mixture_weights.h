#ifndef COTERIE_ROUTER_MIXTURE_WEIGHTS_H_
#define COTERIE_ROUTER_MIXTURE_WEIGHTS_H_

#include <cmath>
#include <span>
#include <vector>

#include "router/expert_index.h"

// How much each of several experts weighs in a plan. Inside router/ only.
namespace coterie::router_internal {

// The c-BTM weight (Gururangan et al. 2023) of a score beside the best one, not normalised:
// exp(-|e - c|^2 / T), where |e - c|^2 = 2 - 2 score for unit vectors. The best score is taken out of every
// exponent: the ratios stay, nothing overflows.
template <class Real>
Real MixtureMass(float score, float best, float temperature) {
  return std::exp(Real{2} * (Real{score} - Real{best}) / Real{temperature});
}

// Softmax of `ranked` at `temperature`: their c-BTM weights.
std::vector<float> SoftmaxOfScores(std::span<const ExpertIndex::Hit> ranked, float temperature);

}  // namespace coterie::router_internal

#endif  // COTERIE_ROUTER_MIXTURE_WEIGHTS_H_
