#ifndef COTERIE_KERNELS_CUDA_STEP_SAMPLING_H_
#define COTERIE_KERNELS_CUDA_STEP_SAMPLING_H_

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>
#include <vector>

#include "common/status.h"
#include "kernels/batch.h"
#include "kernels/cuda/memory.h"
#include "kernels/cuda/sampling_data.h"
#include "kernels/decoder_ops.h"

namespace coterie::cuda {

// The host's side of sampling a step (sampler.h): lays out what kernels read of a batch, and brings back what
// it asked for. One for each step that may be in flight. Not thread-safe.
class StepSampling {
 public:
  // ResourceExhausted where pinned memory is wanting.
  static StatusOr<StepSampling> Create(const StepLimits& limits);

  // Sizes for the largest step. Biases and masks are only of rows that choose a token, one a sequence.
  static size_t DataBytes(const StepLimits& limits);    // of sampling data, on the host and on the device
  static size_t MaxLogprobs(const StepLimits& limits);  // entries
  static size_t PinnedBytes(const StepLimits& limits);  // that Create allocates

  // Lays out the batch's sampling at `data`, DataBytes(), aligned to 8. Returns how many of its bytes the
  // device needs: the first ones.
  size_t LayOut(const Batch& batch, void* data);
  bool mixtures() const { return mixtures_; }  // of the batch that was laid out last

  // Enqueues the batch's counts resets, before its rows are sampled. They wait in pinned memory that the
  // device reads by itself; it grows where a step resets longer sequences than any before. Where it cannot,
  // they are done piece by piece, and this waits for the device.
  Status EnqueueResets(const Batch& batch, uint32_t* counts, cudaStream_t stream);

  // Enqueues copies of what the batch asked for, after its rows were sampled: tokens, log-probabilities, and
  // rows of `logits` [n_logit_rows, vocab_size]. Memory for the last grows, too: ResourceExhausted where it
  // cannot.
  Status EnqueueCopies(const int32_t* tokens, const TokenLogprob* logprobs, const float* logits,
                       cudaStream_t stream);
  // Once they have been waited for; valid until the next LayOut.
  StepResult Result() const;

 private:
  explicit StepSampling(const StepLimits& limits) : limits_(limits) {}
  // Through as much pinned memory as there is.
  Status ResetInPieces(const Batch& batch, uint32_t* counts, cudaStream_t stream);

  StepLimits limits_;
  PinnedMemory tokens_;    // [max_logit_rows]
  PinnedMemory logprobs_;  // [MaxLogprobs()]
  PinnedMemory kept_;      // [rows to report, vocab_size]
  PinnedMemory resets_;    // of CountsReset, then of their tokens
  std::vector<int32_t> kept_rows_;
  std::vector<CountsReset> to_reset_;
  int n_rows_ = 0;
  size_t n_logprobs_ = 0;
  bool mixtures_ = false;
};

}  // namespace coterie::cuda

#endif  // COTERIE_KERNELS_CUDA_STEP_SAMPLING_H_
