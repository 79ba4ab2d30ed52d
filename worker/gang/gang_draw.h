#ifndef COTERIE_WORKER_GANG_GANG_DRAW_H_
#define COTERIE_WORKER_GANG_GANG_DRAW_H_

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "common/sequence.h"
#include "kernels/cpu/step_sampler.h"
#include "worker/engine/sequence.h"
#include "worker/engine/step_batch.h"

namespace coterie {

// Draws the tokens of a gang's sequence from the rows of all its members, the very way in which a worker that
// held them all would: it has the sequence with all its rows, without KV, and takes a step's sampling of it.
// Not thread-safe.
class GangDraw {
 public:
  // `whole`: the sequence so far (prompt_ids, resume_ids), its sampling and allowed tokens; one row for each
  // of `weights`.
  GangDraw(SequenceRequest whole, std::span<const float> weights, int vocab_size, int max_sequence_tokens);

  // The next token and its log-probabilities, valid until the next call; kNotFinite where a logit is not.
  // `rows` [members, vocab_size]; `told` [MaskWords]: the token is one of these, unless none may be chosen.
  int32_t Draw(std::span<const float> rows, std::span<const uint32_t> told);
  std::span<const TokenLogprob> logprobs() const { return output_.logprobs; }

 private:
  const size_t vocab_size_;
  const std::vector<uint32_t> allowed_;  // of the request; empty: all
  std::unique_ptr<Sequence> sequence_;
  StepBatchBuilder builder_;
  cpu::StepSampler sampler_;
  cpu::StepOutput output_;
  std::vector<StepRow> rows_;
};

}  // namespace coterie

#endif  // COTERIE_WORKER_GANG_GANG_DRAW_H_
