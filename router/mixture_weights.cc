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

std::vector<float> RoundWeights(std::span<const float> weights) {
  double kept = 0;
  for (const float weight : weights) kept += weight * (2 * kWeightParts) < 1 ? 0 : weight;
  std::vector<double> wanted(weights.size());  // in parts
  std::vector<int> parts(weights.size());
  int sum = 0;
  for (size_t i = 0; i < weights.size(); ++i) {
    if (weights[i] * (2 * kWeightParts) < 1) continue;
    wanted[i] = weights[i] / kept * kWeightParts;
    parts[i] = std::max(1, static_cast<int>(std::lround(wanted[i])));
    sum += parts[i];
  }
  // What rounding has added or lost, one part at a time, where it is felt least.
  for (; sum != kWeightParts && kept > 0; sum += sum < kWeightParts ? 1 : -1) {
    const bool add = sum < kWeightParts;
    size_t best = weights.size();
    for (size_t i = 0; i < weights.size(); ++i) {
      if (parts[i] == 0 || (!add && parts[i] == 1)) continue;
      const double excess = parts[i] - wanted[i];
      if (best == weights.size() ||
          (add ? excess < parts[best] - wanted[best] : excess > parts[best] - wanted[best]))
        best = i;
    }
    parts[best] += add ? 1 : -1;
  }
  std::vector<float> rounded;
  rounded.reserve(parts.size());
  for (const int n : parts) rounded.push_back(static_cast<float>(n) / kWeightParts);
  return rounded;
}

}  // namespace coterie::router_internal
