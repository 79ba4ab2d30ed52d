#ifndef COTERIE_WORKER_ENGINE_SAMPLER_H_
#define COTERIE_WORKER_ENGINE_SAMPLER_H_

#include <cstdint>
#include <span>
#include <vector>

#include "common/sampling_params.h"
#include "kernels/batch.h"
#include "worker/engine/request.h"

namespace coterie {

// Chooses the next token: a pure function of (params, seed, position, logits, prompt, answer). Sums run in a
// fixed order, ties go to the lower id, and the only random number is Philox's draw number `position` of
// stream `seed`, so an answer taken up elsewhere goes on with the same text.
//
// In this order: repetition penalty (Keskar et al. 2019, CTRL: divide positive, multiply negative logits of
// tokens seen in prompt or answer); frequency and presence penalties (answer only); logit bias; temperature
// 0: the largest logit. Else: divide by temperature; top-k; top-p (Holtzman et al. 2020) within what top-k
// left; min-p against the most probable token; one draw by inverse distribution over what is left,
// renormalised.
//
// Owns scratch memory for one vocabulary; allocates nothing after construction. Not thread-safe.
class Sampler {
 public:
  explicit Sampler(int vocab_size);

  // `logits` [vocab_size]. -1 when a logit is not finite: the model or an adapter is broken, not the request.
  int32_t Sample(const SamplingParams& params, uint64_t seed, uint64_t position,
                 std::span<const float> logits, std::span<const int32_t> prompt,
                 std::span<const int32_t> answer);

  // How many of the largest of `vocab_size` logits Sample needs, at most `most`, and the engine nothing else
  // of the row; 0: the whole row.
  static int TopNeeded(const SamplingParams& params, int vocab_size, int most);
  // The same token from those logits alone, TopNeeded of them in the order of Before().
  int32_t SampleTop(const SamplingParams& params, uint64_t seed, uint64_t position,
                    std::span<const TopLogit> top);

  // Appends to `out` the log-probability of `token`, then those of the `n_top` most probable tokens, best
  // first, in the distribution of the raw logits. False, and nothing appended, when a logit is not finite.
  bool AppendLogprobs(std::span<const float> logits, int32_t token, int n_top, std::vector<ScoredToken>* out);

 private:
  template <typename Enough>
  void GatherLargest(std::span<const float> logits, const Enough& enough);
  template <typename WeightOf>
  static int32_t DrawInOrder(const SamplingParams& params, double uniform, double total,
                             std::span<const TopLogit> candidates, const WeightOf& weight_of);
  void ApplyHistory(const SamplingParams& params, std::span<const int32_t> prompt,
                    std::span<const int32_t> answer);
  int32_t Draw(const SamplingParams& params, uint64_t seed, uint64_t position, std::span<const float> logits,
               float top);

  std::vector<float> adjusted_;       // [vocab]
  std::vector<float> distances_;      // [vocab], below the largest logit, in units of the temperature
  std::vector<float> weights_;        // [vocab], exp(-distance)
  std::vector<uint32_t> counts_;      // [vocab], zero between calls
  std::vector<TopLogit> candidates_;  // [<= vocab], best first
  std::vector<uint32_t> class_counts_;
  std::vector<double> class_mass_;
};

}  // namespace coterie

#endif  // COTERIE_WORKER_ENGINE_SAMPLER_H_
