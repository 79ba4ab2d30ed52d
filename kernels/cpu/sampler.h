#ifndef COTERIE_KERNELS_CPU_SAMPLER_H_
#define COTERIE_KERNELS_CPU_SAMPLER_H_

#include <cstdint>
#include <span>
#include <vector>

#include "kernels/cpu/top_logit.h"
#include "kernels/sampling.h"

namespace coterie::cpu {

// What sampling a row reads beside its RowSampling.
struct SamplerInputs {
  std::span<const LogitBias> biases = {};
  std::span<const uint32_t> mask = {};    // a bit per token; empty: all may be chosen
  std::span<const uint32_t> counts = {};  // see TokenCounts; empty: no penalties
};

// Chooses the token of a row as RowSampling says (kernels/sampling.h): the reference for every backend. Sums
// are exact (kernels/token_weights.h) and ties go to the lower id.
//
// Owns scratch memory for one vocabulary; allocates nothing after construction. Not thread-safe.
class Sampler {
 public:
  explicit Sampler(int vocab_size);

  // `logits` [vocab_size]. kNotFinite when one of them is not finite, or when the mask lets nothing through.
  int32_t Sample(const RowSampling& row, std::span<const float> logits, const SamplerInputs& inputs = {});

  // How many of the largest of `vocab_size` logits Sample needs, at most `most`, when nothing else of the row
  // is reported; 0: the whole row.
  static int TopNeeded(const RowSampling& row, int vocab_size, int most);
  // The token that Sample would choose, from the TopNeeded largest logits alone, in the order of Before().
  int32_t SampleTop(const RowSampling& row, std::span<const TopLogit> top);

  // Writes to `out` [NumLogprobs] the log-probability of `token`, then those of the most probable tokens,
  // best first, in the distribution of the raw logits. False, with kNotFinite and NaN throughout, when a
  // logit is not finite.
  bool Logprobs(std::span<const float> logits, int32_t token, std::span<TokenLogprob> out);

 private:
  template <typename Enough>
  void GatherLargest(std::span<const float> logits, const Enough& enough);
  template <typename WeightOf>
  static int32_t DrawInOrder(const RowSampling& row, uint64_t total, std::span<const TopLogit> candidates,
                             const WeightOf& weight_of);
  int32_t DrawById(uint64_t target) const;
  std::span<const float> Adjust(const RowSampling& row, std::span<const float> logits,
                                const SamplerInputs& inputs);
  int32_t Draw(const RowSampling& row, std::span<const float> logits, float top);

  std::vector<float> adjusted_;       // [vocab]
  std::vector<float> distances_;      // [vocab], below the largest logit, in units of the temperature
  std::vector<float> weights_;        // [vocab], exp(-distance)
  std::vector<TopLogit> candidates_;  // [<= vocab], best first
  std::vector<uint32_t> class_counts_;
  std::vector<uint64_t> class_mass_;
};

}  // namespace coterie::cpu

#endif  // COTERIE_KERNELS_CPU_SAMPLER_H_
