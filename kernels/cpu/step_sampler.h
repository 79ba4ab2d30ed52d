#ifndef COTERIE_KERNELS_CPU_STEP_SAMPLER_H_
#define COTERIE_KERNELS_CPU_STEP_SAMPLER_H_

#include <cstdint>
#include <span>
#include <vector>

#include "kernels/batch.h"
#include "kernels/cpu/mixture.h"
#include "kernels/cpu/sampler.h"
#include "kernels/cpu/token_counts.h"

namespace coterie::cpu {

// The results of the rows of a step that were sampled so far.
struct StepOutput {
  std::vector<int32_t> tokens;         // [n_logit_rows]
  std::vector<TokenLogprob> logprobs;  // see StepResult
  std::vector<float> logits;

  void Reserve(int max_rows);
  void Clear();
  StepResult View() const { return {tokens, logprobs, logits}; }
};

// Samples the rows of a step, one after the other, and holds the token counts from step to step. Call Begin,
// then TakeRow once for each row, in order. Not thread-safe.
class StepSampler {
 public:
  // `n_seats` with token counts.
  StepSampler(int vocab_size, int n_seats)
      : vocab_size_(vocab_size), sampler_(vocab_size), mixture_(vocab_size), counts_(n_seats, vocab_size) {}

  // Both are borrowed until the next Begin. Empties `output`.
  void Begin(const Batch& batch, StepOutput* output);
  // How many of its largest logits row `row` needs, at most `most`; 0: all of its logits.
  int TopNeeded(int row, int most) const;
  void TakeRow(std::span<const float> logits);  // [vocab_size]
  void TakeRow(std::span<const TopLogit> top);  // TopNeeded of them, in the order of Before()

 private:
  // The row to sample next: each row gives one token.
  const RowSampling& Current() const { return batch_->sampling[output_->tokens.size() + n_mixed_]; }
  void MixRow(std::span<const float> logits);
  void SampleRow(const RowSampling& row, std::span<const float> logits);
  void Choose(const RowSampling& row, int32_t token);

  const int vocab_size_;
  Sampler sampler_;
  Mixture mixture_;
  TokenCounts counts_;
  const Batch* batch_ = nullptr;
  StepOutput* output_ = nullptr;
  size_t n_mixed_ = 0;  // rows added to the current mixture
};

}  // namespace coterie::cpu

#endif  // COTERIE_KERNELS_CPU_STEP_SAMPLER_H_
