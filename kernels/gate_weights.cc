#include "kernels/gate_weights.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "common/philox.h"
#include "kernels/token_weights.h"

namespace coterie {

void NoisyScores(uint64_t seed, int position, int layer, LoraModule module, std::span<float> scores) {
  // Draws of tokens have zero in the counter's last word.
  constexpr uint32_t kStream = 0x65746167;
  // Fixed, so that answers stay what they were when modules are added: no base has both the seven modules and
  // the fused ones, whose places would meet those of the next layer.
  constexpr int kPlacesPerLayer = 7;
  const auto place = static_cast<uint32_t>(layer * kPlacesPerLayer + static_cast<int>(module));
  std::array<uint32_t, 4> bits = {};
  for (size_t i = 0; i < scores.size(); ++i) {
    if (i % 4 == 0) {
      bits = Philox4x32({static_cast<uint32_t>(position), place, static_cast<uint32_t>(i / 4), kStream},
                        {static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32)});
    }
    scores[i] = static_cast<float>(static_cast<int32_t>(bits[i % 4]) >> 8) * 0x1p-23f;
  }
}

void GateWeights(std::span<const float> scores, int top_k, std::span<float> weights) {
  if (!std::all_of(scores.begin(), scores.end(), [](float score) { return std::isfinite(score); })) {
    return std::fill(weights.begin(), weights.end(), std::numeric_limits<float>::quiet_NaN());
  }
  // First marks by 1 what is used: of a few scores, the highest is searched over and over.
  std::fill(weights.begin(), weights.end(), 0.0f);
  float highest = 0;
  for (int n = 0; n < top_k; ++n) {
    size_t best = scores.size();
    for (size_t i = 0; i < scores.size(); ++i) {
      if (weights[i] == 0 && (best == scores.size() || scores[i] > scores[best])) best = i;
    }
    if (best == scores.size()) break;
    weights[best] = 1;
    if (n == 0) highest = scores[best];
  }
  float sum = 0;
  for (size_t i = 0; i < scores.size(); ++i) {
    if (weights[i] == 0) continue;
    weights[i] = ExpOfNegative<float, int32_t>(highest - scores[i]);
    sum += weights[i];
  }
  for (float& weight : weights) weight /= sum;
}

}  // namespace coterie
