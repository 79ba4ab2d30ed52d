#include "router/mixture_weights.h"

#include <algorithm>

namespace coterie::router_internal {

std::vector<float> SoftmaxOfScores(std::span<const ExpertIndex::Hit> ranked, float temperature) {
  std::vector<float> weights;
  float best = -INFINITY;
  for (const ExpertIndex::Hit& hit : ranked) best = std::max(best, hit.score);
  double sum = 0;
  for (const ExpertIndex::Hit& hit : ranked) {
    weights.push_back(MixtureMass<float>(hit.score, best, temperature));
    sum += weights.back();
  }
  for (float& weight : weights) weight = static_cast<float>(weight / sum);
  return weights;
}

}  // namespace coterie::router_internal
