#ifndef COTERIE_KERNELS_CUDA_SAMPLING_DATA_H_
#define COTERIE_KERNELS_CUDA_SAMPLING_DATA_H_

#include <cstddef>
#include <cstdint>

#include "kernels/sampling.h"

namespace coterie::cuda {

// How one row of logits is sampled: RowSampling (kernels/sampling.h) as kernels read it.
struct RowSpec {
  uint64_t seed, position;
  float temperature, top_p, min_p;
  uint32_t top_k;
  float repetition_penalty, frequency_penalty, presence_penalty;
  int32_t seat;        // to whose counts the token is added; -1: nobody's
  int32_t bias_begin;  // of the step's biases
  int32_t bias_end;
  int32_t mask;         // -1: none
  int32_t mix_rows;     // of the mixture that begins here; 1: not mixed; 0: a later row of a mixture
  float mix_weight;     // 0: not mixed
  int32_t score_token;  // -1: choose one
  int32_t n_best;       // most probable tokens to report, at most kMaxLogprobs; -1: report nothing
  int32_t logprobs_at;  // the row's first entry of the step's log-probabilities
  bool penalised;       // by the counts of its seat
  bool adjusted;        // penalised, biased or masked

  constexpr bool mixed() const { return mix_weight > 0; }
  constexpr bool draws() const { return score_token < 0 && temperature != 0.0f; }
  constexpr bool cuts_k(int vocab_size) const {
    return top_k > 0 && top_k < static_cast<uint32_t>(vocab_size);
  }
  constexpr bool sorts(int vocab_size) const { return cuts_k(vocab_size) || top_p < 1.0f; }
};

// What stands at the beginning of a step's sampling data. Behind it the rows, the biases and the masks, each
// no longer than this step needs, so that one copy brings them all.
struct SamplingHeader {
  int32_t n_rows;
  int32_t biases_at;  // bytes from the header
  int32_t masks_at;
  int32_t unused;
};

// A step's sampling data and the state it works on, at addresses that stay the same from step to step.
struct SamplingData {
  const SamplingHeader* header = nullptr;
  int vocab_size = 0;
  // [n_seats, vocab_size]: how often each token occurs in the sequence at a seat, and kSeenToken.
  uint32_t* counts = nullptr;
};

// Flag of a count: the token occurs in the prompt or the answer. The lower bits count it in the answer.
constexpr uint32_t kSeenToken = 1u << 31;

constexpr size_t TokenCountsBytes(int n_seats, int vocab_size) {
  return static_cast<size_t>(n_seats) * static_cast<size_t>(vocab_size) * sizeof(uint32_t);
}

}  // namespace coterie::cuda

#endif  // COTERIE_KERNELS_CUDA_SAMPLING_DATA_H_
