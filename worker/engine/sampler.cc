#include "worker/engine/sampler.h"

#include <algorithm>
#include <bit>
#include <cmath>

#include "common/check.h"
#include "common/philox.h"
#include "worker/engine/vector_math.h"

namespace coterie {
namespace {

// The lowest id with the largest logit; -1 when one is not finite.
int32_t Argmax(std::span<const float> logits) {
  const float top = MaxIfFinite(logits);
  if (std::isnan(top)) return -1;
  return static_cast<int32_t>(std::find(logits.begin(), logits.end(), top) - logits.begin());
}

// Candidates in classes of about equal distance, nearest first: eight classes for each doubling. The order of
// floats of one sign is the order of their bits.
constexpr int kClassShift = 20;
constexpr size_t kClasses = (0x7F800000u >> kClassShift) + 1;  // up to infinity

size_t ClassOf(float distance) { return std::bit_cast<uint32_t>(distance) >> kClassShift; }

}  // namespace

Sampler::Sampler(int vocab_size)
    : adjusted_(vocab_size),
      distances_(vocab_size),
      weights_(vocab_size),
      counts_(vocab_size, 0),
      class_counts_(kClasses),
      class_mass_(kClasses) {
  candidates_.reserve(vocab_size);
}

int32_t Sampler::Sample(const SamplingParams& params, uint64_t seed, uint64_t position,
                        std::span<const float> logits, std::span<const int32_t> prompt,
                        std::span<const int32_t> answer) {
  COTERIE_CHECK_EQ(logits.size(), adjusted_.size());
  if (params.has_penalties() || !params.logit_bias.empty()) {
    std::copy(logits.begin(), logits.end(), adjusted_.begin());
    ApplyHistory(params, prompt, answer);
    for (const auto& [token, bias] : params.logit_bias) adjusted_[token] += bias;
    logits = adjusted_;
  }
  const int32_t best = Argmax(logits);
  if (params.greedy() || best < 0) return best;
  return Draw(params, seed, position, logits, logits[best]);
}

void Sampler::ApplyHistory(const SamplingParams& params, std::span<const int32_t> prompt,
                           std::span<const int32_t> answer) {
  // A token's count in the answer, plus kSeen for having occurred at all: each is treated once, whatever the
  // order.
  constexpr uint32_t kSeen = 1u << 31;
  for (int32_t token : prompt) counts_[token] |= kSeen;
  for (int32_t token : answer) counts_[token] = (counts_[token] + 1) | kSeen;
  auto apply = [&](int32_t token) {
    const uint32_t state = counts_[token];
    if (state == 0) return;
    counts_[token] = 0;
    float& logit = adjusted_[token];
    logit = logit > 0 ? logit / params.repetition_penalty : logit * params.repetition_penalty;
    const uint32_t n_in_answer = state & ~kSeen;
    if (n_in_answer > 0) {
      logit -= static_cast<float>(n_in_answer) * params.frequency_penalty + params.presence_penalty;
    }
  };
  for (int32_t token : prompt) apply(token);
  for (int32_t token : answer) apply(token);
}

int32_t Sampler::Draw(const SamplingParams& params, uint64_t seed, uint64_t position,
                      std::span<const float> logits, float top) {
  const size_t n = logits.size();
  DistancesBelow(top, logits, params.temperature, distances_);
  ExpOfNegative(distances_, weights_);
  const double uniform = PhiloxUniform(seed, position);
  const bool cut_k = params.top_k > 0 && params.top_k < n;
  if (!cut_k && params.top_p >= 1.0f) {
    if (params.min_p > 0.0f) {  // the most probable token's weight is 1
      for (float& weight : weights_) weight = weight >= params.min_p ? weight : 0.0f;
    }
    const double target = uniform * SumOf(weights_);
    double mass = 0;
    size_t last = 0;
    for (size_t i = 0; i < n; ++i) {
      if (weights_[i] == 0.0f) continue;
      mass += weights_[i];
      last = i;
      if (mass > target) break;
    }
    return static_cast<int32_t>(last);  // rounding may leave target at the very end
  }
  // Most probable first, by sorting only the classes of distance that can matter.
  double total = 0;
  if (cut_k) {
    GatherLargest(logits, [&](size_t count, double) { return count >= params.top_k; });
    candidates_.resize(params.top_k);
    for (const TopLogit& c : candidates_) total += weights_[c.id];
  } else {
    total = SumOf(weights_);
    GatherLargest(logits,
                  [&](size_t, double mass) { return mass >= static_cast<double>(params.top_p) * total; });
  }
  return DrawInOrder(params, uniform, total, candidates_,
                     [&](size_t i) { return weights_[candidates_[i].id]; });
}

int Sampler::TopNeeded(const SamplingParams& params, int vocab_size, int most) {
  if (params.logprobs.has_value() || params.has_penalties() || !params.logit_bias.empty()) return 0;
  const uint32_t k = params.greedy() ? 1 : params.top_k;
  // As large as the vocabulary, it is no cut: Draw then goes by ids.
  const bool cut = params.greedy() || k < static_cast<uint32_t>(vocab_size);
  return cut && k <= static_cast<uint32_t>(most) ? static_cast<int>(k) : 0;
}

int32_t Sampler::SampleTop(const SamplingParams& params, uint64_t seed, uint64_t position,
                           std::span<const TopLogit> top) {
  if (!std::isfinite(top.front().value)) return -1;
  if (params.greedy()) return top.front().id;
  const size_t n = top.size();
  for (size_t i = 0; i < n; ++i) adjusted_[i] = top[i].value;
  const std::span<float> weights(weights_.data(), n);
  DistancesBelow(top.front().value, {adjusted_.data(), n}, params.temperature, distances_);
  ExpOfNegative({distances_.data(), n}, weights);
  double total = 0;
  for (const float weight : weights) total += weight;
  return DrawInOrder(params, PhiloxUniform(seed, position), total, top, [&](size_t i) { return weights[i]; });
}

// One of the candidates, which stand most probable first and weigh `total` together (or are the first of
// those that do), by top-p and min-p.
template <typename WeightOf>
int32_t Sampler::DrawInOrder(const SamplingParams& params, double uniform, double total,
                             std::span<const TopLogit> candidates, const WeightOf& weight_of) {
  const double nucleus = params.top_p < 1.0f ? static_cast<double>(params.top_p) * total : INFINITY;
  double mass = 0;
  size_t n_kept = 0;
  while (n_kept < candidates.size() && mass < nucleus) {
    const float weight = weight_of(n_kept);
    if (n_kept > 0 && weight < params.min_p) break;
    mass += weight;
    ++n_kept;
  }
  const double target = uniform * mass;
  double reached = 0;
  for (size_t i = 0; i < n_kept; ++i) {
    reached += weight_of(i);
    if (reached > target) return candidates[i].id;
  }
  return candidates[n_kept - 1].id;
}

// Fills candidates_, sorted, with whole classes, nearest first, until `enough(count, mass)` of what they
// hold. The order is of the logits: different ones may round to one distance.
template <typename Enough>
void Sampler::GatherLargest(std::span<const float> logits, const Enough& enough) {
  std::fill(class_counts_.begin(), class_counts_.end(), 0);
  std::fill(class_mass_.begin(), class_mass_.end(), 0.0);
  for (size_t i = 0; i < distances_.size(); ++i) {
    const size_t at = ClassOf(distances_[i]);
    ++class_counts_[at];
    class_mass_[at] += weights_[i];
  }
  size_t count = 0;
  double mass = 0;
  size_t last = 0;
  for (; last < kClasses; ++last) {
    count += class_counts_[last];
    mass += class_mass_[last];
    if (enough(count, mass)) break;
  }
  candidates_.clear();
  for (size_t i = 0; i < distances_.size(); ++i) {
    if (ClassOf(distances_[i]) <= last) candidates_.push_back({logits[i], static_cast<int32_t>(i)});
  }
  std::sort(candidates_.begin(), candidates_.end(), Before);
}

bool Sampler::AppendLogprobs(std::span<const float> logits, int32_t token, int n_top,
                             std::vector<ScoredToken>* out) {
  const float top = MaxIfFinite(logits);
  if (std::isnan(top)) return false;
  DistancesBelow(top, logits, 1.0f, distances_);
  ExpOfNegative(distances_, weights_);
  const double log_sum = std::log(SumOf(weights_));
  auto logprob = [&](size_t id) {
    return static_cast<float>(-static_cast<double>(distances_[id]) - log_sum);
  };
  out->push_back({token, logprob(token)});
  if (n_top <= 0) return true;
  // The best n_top so far stand in a heap with the worst of them in front.
  candidates_.clear();
  for (size_t i = 0; i < logits.size(); ++i) {
    const TopLogit candidate{logits[i], static_cast<int32_t>(i)};
    if (static_cast<int>(candidates_.size()) == n_top) {
      if (!Before(candidate, candidates_.front())) continue;
      std::pop_heap(candidates_.begin(), candidates_.end(), Before);
      candidates_.back() = candidate;
    } else {
      candidates_.push_back(candidate);
    }
    std::push_heap(candidates_.begin(), candidates_.end(), Before);
  }
  std::sort_heap(candidates_.begin(), candidates_.end(), Before);
  for (const TopLogit& c : candidates_) out->push_back({c.id, logprob(c.id)});
  return true;
}

}  // namespace coterie
