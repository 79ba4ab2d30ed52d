#include "kernels/cuda/device_code.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/sampler.h"

namespace coterie::cuda {
namespace {

constexpr int kResetThreads = 512;

// A block for each seat.
__global__ void ResetCounts(const CountsReset* resets, const int32_t* tokens, int vocab_size, bool more,
                            uint32_t* counts) {
  const CountsReset reset = resets[blockIdx.x];
  uint32_t* const row = counts + static_cast<int64_t>(reset.seat) * vocab_size;
  const int thread = static_cast<int>(threadIdx.x), n_threads = static_cast<int>(blockDim.x);
  for (int token = thread; !more && token < vocab_size; token += n_threads) row[token] = 0;
  BlockBarrier();
  for (int at = reset.begin + thread; at < reset.end; at += n_threads) {
    AtomicMax(row + tokens[at], kSeenToken);
  }
  BlockBarrier();
  for (int at = reset.answer + thread; at < reset.end; at += n_threads) AtomicAdd(row + tokens[at], 1);
}

}  // namespace

void ApplyCountsResets(const CountsReset* resets, int n_resets, const int32_t* tokens, int vocab_size,
                       uint32_t* counts, cudaStream_t stream, bool more) {
  if (n_resets == 0) return;
  Launch(ResetCounts, static_cast<unsigned>(n_resets), kResetThreads, 0, stream, resets, tokens, vocab_size,
         more, counts);
}

}  // namespace coterie::cuda
