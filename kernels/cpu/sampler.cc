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
#include "kernels/token_weights.h"

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
  COTERIE_CHECK_LE(vocab_size, kMaxSampledVocabulary) << "tokens to sample from";
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
  ExpOfNegatives(distances_, weights_);
  const bool cut_k = row.top_k > 0 && row.top_k < n;
  if (!cut_k && row.top_p >= 1.0f) {
    if (row.min_p > 0.0f) {  // the most probable token's weight is 1
      for (float& weight : weights_) weight = weight >= row.min_p ? weight : 0.0f;
    }
    return DrawById(DrawTarget(PhiloxBits(row.seed, row.position), MassOfAll(weights_)));
  }
  // Most probable first, by sorting only the classes of distance that can matter.
  uint64_t total = 0;
  if (cut_k) {
    GatherLargest(logits, [&](size_t count, uint64_t) { return count >= row.top_k; });
    candidates_.resize(row.top_k);
    for (const TopLogit& c : candidates_) total += MassOf(weights_[c.id]);
  } else {
    total = MassOfAll(weights_);
    const uint64_t nucleus = NucleusMass(row.top_p, total);
    GatherLargest(logits, [&](size_t, uint64_t mass) { return mass >= nucleus; });
  }
  return DrawInOrder(row, total, candidates_, [&](size_t i) { return weights_[candidates_[i].id]; });
}

// The first token, in order of id, at which the running mass of weights_ exceeds `target`.
int32_t Sampler::DrawById(uint64_t target) const {
  constexpr size_t kPart = 256;  // passed over as a whole until the target lies within
  std::span<const float> rest = weights_;
  for (;;) {
    const std::span<const float> part = rest.first(std::min(kPart, rest.size()));
    const uint64_t mass = MassOfAll(part);
    if (mass > target) break;
    target -= mass;
    rest = rest.subspan(part.size());
  }
  size_t i = 0;
  for (; MassOf(rest[i]) <= target; ++i) target -= MassOf(rest[i]);
  return static_cast<int32_t>(weights_.size() - rest.size() + i);
}

int Sampler::TopNeeded(const RowSampling& row, int vocab_size, int most) {
  if (row.keep_logits || row.n_logprobs >= 0 || row.mix_weight > 0 || row.has_penalties() || row.mask >= 0 ||
      row.late_mask != nullptr || row.bias_begin < row.bias_end) {
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
  ExpOfNegatives({distances_.data(), n}, weights);
  return DrawInOrder(row, MassOfAll(weights), top, [&](size_t i) { return weights[i]; });
}

// Applies top-p and min-p to the candidates and draws one of what is left. They are sorted, most probable
// first; `total` is the mass of the whole distribution, of which they may be only the front.
template <typename WeightOf>
int32_t Sampler::DrawInOrder(const RowSampling& row, uint64_t total, std::span<const TopLogit> candidates,
                             const WeightOf& weight_of) {
  const uint64_t nucleus = row.top_p < 1.0f ? NucleusMass(row.top_p, total) : UINT64_MAX;
  uint64_t kept = 0;
  for (size_t i = 0; i < candidates.size() && kept < nucleus; ++i) {
    const float weight = weight_of(i);
    if (i > 0 && weight < row.min_p) break;
    kept += MassOf(weight);
  }
  uint64_t target = DrawTarget(PhiloxBits(row.seed, row.position), kept);
  size_t i = 0;  // stays among those that were kept: the target is below their mass
  for (; MassOf(weight_of(i)) <= target; ++i) target -= MassOf(weight_of(i));
  return candidates[i].id;
}

// Fills candidates_, sorted, class by class, nearest first, until `enough(count, mass)` of what they contain.
// Sorts by logit: different logits may round to one distance.
template <typename Enough>
void Sampler::GatherLargest(std::span<const float> logits, const Enough& enough) {
  std::fill(class_counts_.begin(), class_counts_.end(), 0);
  std::fill(class_mass_.begin(), class_mass_.end(), 0);
  for (size_t i = 0; i < distances_.size(); ++i) {
    const size_t at = ClassOf(distances_[i]);
    ++class_counts_[at];
    class_mass_[at] += MassOf(weights_[i]);
  }
  size_t count = 0;
  uint64_t mass = 0;
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
  ExpOfNegatives(distances_, weights_);
  const double log_sum = LogOf(WeightOfMass(MassOfAll(weights_)));
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
