#include "worker/engine/sampler.h"

#include <algorithm>
#include <cmath>

#include "common/check.h"
#include "common/philox.h"

namespace coterie {
namespace {

// The largest logit's token, the lowest id among equals; -1 for NaN or when everything is -inf. Eight lanes,
// so that the comparison chain does not wait for itself (49,152 logits: 12 us instead of 50).
int32_t Argmax(std::span<const float> logits) {
  constexpr int kLanes = 8;
  float best[kLanes];
  int32_t at[kLanes];
  for (int lane = 0; lane < kLanes; ++lane) {
    best[lane] = -INFINITY;
    at[lane] = -1;
  }
  bool nan = false;
  const int n = static_cast<int>(logits.size());
  for (int i = 0; i < n; i += kLanes) {
    for (int lane = 0; lane < std::min(kLanes, n - i); ++lane) {
      const float x = logits[i + lane];
      nan |= x != x;
      if (x > best[lane]) {
        best[lane] = x;
        at[lane] = i + lane;
      }
    }
  }
  if (nan) return -1;
  int32_t winner = at[0];
  float top = best[0];
  for (int lane = 1; lane < kLanes; ++lane) {
    if (best[lane] > top || (best[lane] == top && at[lane] >= 0 && at[lane] < winner)) {
      top = best[lane];
      winner = at[lane];
    }
  }
  return std::isfinite(top) ? winner : -1;
}

}  // namespace

Sampler::Sampler(int vocab_size) : adjusted_(vocab_size), counts_(vocab_size, 0) {
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
  const int n = static_cast<int>(logits.size());
  // Relative to the largest before dividing: no temperature, however small, can overflow.
  candidates_.resize(n);
  for (int32_t i = 0; i < n; ++i) candidates_[i] = {(logits[i] - top) / params.temperature, i};
  const bool cut_k = params.top_k > 0 && params.top_k < static_cast<uint32_t>(n);
  if (cut_k) {
    std::nth_element(candidates_.begin(), candidates_.begin() + (params.top_k - 1), candidates_.end(),
                     Better);
    candidates_.resize(params.top_k);
    std::sort(candidates_.begin(), candidates_.end(), Better);
  }
  // Weights relative to the most probable token, summed in order in float64.
  auto weight = [](const Candidate& c) { return static_cast<double>(std::exp(c.logit)); };
  if (params.top_p < 1.0f) {
    double total = 0;
    for (const Candidate& c : candidates_) total += weight(c);
    const double wanted = static_cast<double>(params.top_p) * total;
    // A heap gives the few best without sorting the whole vocabulary; they are gathered at the back.
    auto worse = [](const Candidate& a, const Candidate& b) { return Better(b, a); };
    std::make_heap(candidates_.begin(), candidates_.end(), worse);
    auto heap_end = candidates_.end();
    double mass = 0;
    while (heap_end != candidates_.begin()) {
      std::pop_heap(candidates_.begin(), heap_end, worse);
      --heap_end;
      mass += weight(*heap_end);
      if (mass >= wanted) break;
    }
    std::reverse(heap_end, candidates_.end());
    candidates_.erase(candidates_.begin(), heap_end);
  }
  if (params.min_p > 0.0f) {
    const double least = params.min_p;  // the most probable token's weight is 1
    std::erase_if(candidates_, [&](const Candidate& c) { return weight(c) < least; });
  }
  double total = 0;
  for (const Candidate& c : candidates_) total += weight(c);
  const double target = PhiloxUniform(seed, position) * total;
  double mass = 0;
  for (const Candidate& c : candidates_) {
    mass += weight(c);
    if (mass > target) return c.id;
  }
  return candidates_.back().id;  // rounding left target at the very end
}

void Sampler::AppendLogprobs(std::span<const float> logits, int32_t token, int n_top,
                             std::vector<ScoredToken>* out) {
  const int n = static_cast<int>(logits.size());
  float top = -INFINITY;
  for (float x : logits) top = std::max(top, x);
  double sum = 0;
  for (float x : logits) sum += static_cast<double>(std::exp(x - top));
  const double log_norm = static_cast<double>(top) + std::log(sum);
  auto logprob = [&](float logit) { return static_cast<float>(static_cast<double>(logit) - log_norm); };
  out->push_back({token, logprob(logits[token])});
  if (n_top <= 0) return;
  // The best n_top so far stand in a heap with the worst of them in front.
  candidates_.clear();
  for (int32_t i = 0; i < n; ++i) {
    const Candidate candidate{logits[i], i};
    if (static_cast<int>(candidates_.size()) == n_top) {
      if (!Better(candidate, candidates_.front())) continue;
      std::pop_heap(candidates_.begin(), candidates_.end(), Better);
      candidates_.back() = candidate;
    } else {
      candidates_.push_back(candidate);
    }
    std::push_heap(candidates_.begin(), candidates_.end(), Better);
  }
  std::sort_heap(candidates_.begin(), candidates_.end(), Better);
  for (const Candidate& c : candidates_) out->push_back({c.id, logprob(c.logit)});
}

}  // namespace coterie
