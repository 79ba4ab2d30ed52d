#include "common/member_weights.h"

#include <algorithm>
#include <cmath>

#include "common/refused_field.h"

namespace coterie {
namespace {

// What rounding by hand leaves (0.33, 0.33, 0.33) is meant to be 1; a sum beyond half a 32nd is not.
constexpr double kSumTolerance = 1.0 / 64;

template <typename... Words>
Status Refuse(const std::string& field, const Words&... words) {
  return OfField(absl::InvalidArgumentError(absl::StrCat(field, words...)), field);
}

}  // namespace

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

StatusOr<std::vector<float>> CompleteWeights(std::span<const std::optional<float>> given,
                                             const std::function<std::string(size_t i)>& field,
                                             const std::string& all) {
  std::vector<float> weights;
  double sum = 0;
  const bool weighted = given.front().has_value();
  for (size_t i = 0; i < given.size(); ++i) {
    if (given[i].has_value() != weighted) {
      return Refuse(field(i), weighted ? " is not set" : " is set",
                    " unlike that of the members before; give every member a weight, or none");
    }
    const float weight = given[i].value_or(1.0f / static_cast<float>(given.size()));
    if (!std::isfinite(weight) || weight <= 0) {
      return Refuse(field(i), " is ", weight,
                    "; it must be above 0 and finite: a member that shall say nothing is left out");
    }
    sum += static_cast<double>(weight);
    weights.push_back(weight);
  }
  if (!(std::abs(sum - 1) <= kSumTolerance)) {
    return Refuse(all, ": their weights sum to ", sum, "; they must sum to 1 (within 1/64)");
  }
  for (float& weight : weights) weight = static_cast<float>(static_cast<double>(weight) / sum);
  return RoundWeights(weights);
}

}  // namespace coterie
