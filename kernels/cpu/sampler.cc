#include "kernels/cpu/sampler.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>

#include "common/check.h"
#include "common/philox.h"
#include "kernels/batch.h"
#include "kernels/cpu/token_counts.h"
#include "kernels/cpu/vector_math.h"

namespace coterie::cpu {
namespace {

// Replaces masked logits: finite, but below all logits that matter, and with a weight of 0 beside any of
// them.
constexpr float kMasked = -std::numeric_limits<float>::max();

// The lowest id with the largest logit; kNotFinite when one is not finite.
int32_t Argmax(std::span<const float> logits) {
  const float top = MaxIfFinite(logits);
  if (std::isnan(top)) return kNotFinite;
  return static_cast<int32_t>(std::find(logits.begin(), logits.end(), top) - logits.begin());
}

// Candidates are bucketed into classes of about equal distance, nearest first, eight classes for each
// doubling of the distance. The order of floats of one sign is the order of their bits.
constexpr int kClassShift = 20;
constexpr size_t kClasses = (0x7F800000u >> kClassShift) + 1;  // up to infinity

size_t ClassOf(float distance) { return std::bit_cast<uint32_t>(distance) >> kClassShift; }

}  // namespace

Sampler::Sampler(int vocab_size)
    : adjusted_(vocab_size),
      distances_(vocab_size),
      weights_(vocab_size),
      class_counts_(kClasses),
      class_mass_(kClasses) {
  candidates_.reserve(vocab_size);
}

int32_t Sampler::Sample(const RowSampling& row, std::span<const float> logits, const SamplerInputs& inputs) {
  COTERIE_CHECK_EQ(logits.size(), adjusted_.size());
  logits = Adjust(row, logits, inputs);
  const int32_t best = Argmax(logits);
  if (best < 0) return kNotFinite;
  if (!inputs.mask.empty() && logits[best] == kMasked) return kNotFinite;
  return row.greedy() ? best : Draw(row, logits, logits[best]);
}

std::span<const float> Sampler::Adjust(const RowSampling& row, std::span<const float> logits,
                                       const SamplerInputs& inputs) {
  const bool penalised = row.has_penalties() && !inputs.counts.empty();
  if (!penalised && inputs.biases.empty() && inputs.mask.empty()) return logits;
  std::copy(logits.begin(), logits.end(), adjusted_.begin());
  for (size_t token = 0; penalised && token < adjusted_.size(); ++token) {
    const uint32_t count = inputs.counts[token];
    if (count == 0) continue;
    float& logit = adjusted_[token];
    logit = logit > 0 ? logit / row.repetition_penalty : logit * row.repetition_penalty;
    const uint32_t n_in_answer = count & ~TokenCounts::kSeen;
    if (n_in_answer > 0) {
      logit -= static_cast<float>(n_in_answer) * row.frequency_penalty + row.presence_penalty;
    }
  }
  for (const auto& [token, bias] : inputs.biases) adjusted_[token] += bias;
  if (inputs.mask.empty()) return adjusted_;
  // Checked before a mask could hide it: a broken row is reported whatever may be chosen from it.
  if (std::isnan(MaxIfFinite(adjusted_))) return adjusted_;
  for (size_t token = 0; token < adjusted_.size(); ++token) {
    if (!MaskAllows(inputs.mask, token)) adjusted_[token] = kMasked;
  }
  return adjusted_;
}

int32_t Sampler::Draw(const RowSampling& row, std::span<const float> logits, float top) {
  const size_t n = logits.size();
  DistancesBelow(top, logits, row.temperature, distances_);
  ExpOfNegative(distances_, weights_);
  const double uniform = PhiloxUniform(row.seed, row.position);
  const bool cut_k = row.top_k > 0 && row.top_k < n;
  if (!cut_k && row.top_p >= 1.0f) {
    if (row.min_p > 0.0f) {  // the most probable token's weight is 1
      for (float& weight : weights_) weight = weight >= row.min_p ? weight : 0.0f;
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
    GatherLargest(logits, [&](size_t count, double) { return count >= row.top_k; });
    candidates_.resize(row.top_k);
    for (const TopLogit& c : candidates_) total += weights_[c.id];
  } else {
    total = SumOf(weights_);
    GatherLargest(logits,
                  [&](size_t, double mass) { return mass >= static_cast<double>(row.top_p) * total; });
  }
  return DrawInOrder(row, uniform, total, candidates_, [&](size_t i) { return weights_[candidates_[i].id]; });
}

int Sampler::TopNeeded(const RowSampling& row, int vocab_size, int most) {
  if (row.keep_logits || row.n_logprobs >= 0 || row.mix_weight > 0 || row.has_penalties() || row.mask >= 0 ||
      row.bias_begin < row.bias_end) {
    return 0;
  }
  const uint32_t k = row.greedy() ? 1 : row.top_k;
  // A top-k as large as the vocabulary cuts nothing: Draw then goes by ids.
  const bool cut = row.greedy() || k < static_cast<uint32_t>(vocab_size);
  return cut && k <= static_cast<uint32_t>(most) ? static_cast<int>(k) : 0;
}

int32_t Sampler::SampleTop(const RowSampling& row, std::span<const TopLogit> top) {
  if (!std::isfinite(top.front().value)) return kNotFinite;
  if (row.greedy()) return top.front().id;
  const size_t n = top.size();
  for (size_t i = 0; i < n; ++i) adjusted_[i] = top[i].value;
  const std::span<float> weights(weights_.data(), n);
  DistancesBelow(top.front().value, {adjusted_.data(), n}, row.temperature, distances_);
  ExpOfNegative({distances_.data(), n}, weights);
  double total = 0;
  for (const float weight : weights) total += weight;
  return DrawInOrder(row, PhiloxUniform(row.seed, row.position), total, top,
                     [&](size_t i) { return weights[i]; });
}

// Applies top-p and min-p to the candidates and draws one of what is left. They are sorted, most probable
// first; `total` is the weight of the whole distribution, of which they may be only the front.
template <typename WeightOf>
int32_t Sampler::DrawInOrder(const RowSampling& row, double uniform, double total,
                             std::span<const TopLogit> candidates, const WeightOf& weight_of) {
  const double nucleus = row.top_p < 1.0f ? static_cast<double>(row.top_p) * total : INFINITY;
  double mass = 0;
  size_t n_kept = 0;
  while (n_kept < candidates.size() && mass < nucleus) {
    const float weight = weight_of(n_kept);
    if (n_kept > 0 && weight < row.min_p) break;
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

// Fills candidates_, sorted, class by class, nearest first, until `enough(count, mass)` of what they contain.
// Sorts by logit: different logits may round to one distance.
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

bool Sampler::Logprobs(std::span<const float> logits, int32_t token, std::span<TokenLogprob> out) {
  const float top = MaxIfFinite(logits);
  if (std::isnan(top)) {
    std::fill(out.begin(), out.end(), TokenLogprob{kNotFinite, NAN});
    return false;
  }
  DistancesBelow(top, logits, 1.0f, distances_);
  ExpOfNegative(distances_, weights_);
  const double log_sum = std::log(SumOf(weights_));
  auto logprob = [&](size_t id) {
    return static_cast<float>(-static_cast<double>(distances_[id]) - log_sum);
  };
  out.front() = {token, logprob(token)};
  const std::span<TokenLogprob> best = out.subspan(1);
  if (best.empty()) return true;
  // The best so far are a heap with the worst of them in front.
  candidates_.clear();
  for (size_t i = 0; i < logits.size(); ++i) {
    const TopLogit candidate{logits[i], static_cast<int32_t>(i)};
    if (candidates_.size() == best.size()) {
      if (!Before(candidate, candidates_.front())) continue;
      std::pop_heap(candidates_.begin(), candidates_.end(), Before);
      candidates_.back() = candidate;
    } else {
      candidates_.push_back(candidate);
    }
    std::push_heap(candidates_.begin(), candidates_.end(), Before);
  }
  std::sort_heap(candidates_.begin(), candidates_.end(), Before);
  for (size_t i = 0; i < best.size(); ++i) {
    best[i] = {candidates_[i].id, logprob(static_cast<size_t>(candidates_[i].id))};
  }
  return true;
}

}  // namespace coterie::cpu
