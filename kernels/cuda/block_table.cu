#include "kernels/cuda/block_table.h"
#include "kernels/cuda/device_code.h"
#include "kernels/cuda/launch.h"

namespace coterie::cuda {
namespace {

// Every thread has places of its own, counted along a row, and goes through the changes in their order: a
// seat that was left and taken again within the step has two.
__global__ void CopyChanges(StepBlocks blocks, int max_blocks, int32_t* table) {
  const int n_threads = static_cast<int>(gridDim.x * blockDim.x);
  const int thread = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  const int n_changes = *blocks.n_changes;
  for (int c = 0; c < n_changes; ++c) {
    const BlocksChange change = blocks.changes[c];
    int32_t* row = table + static_cast<int64_t>(change.seat) * max_blocks;
    const int end = change.first + change.end - change.begin;
    const int skip = (thread - change.first % n_threads + n_threads) % n_threads;
    for (int at = change.first + skip; at < end; at += n_threads) {
      row[at] = blocks.changed_blocks[change.begin + at - change.first];
    }
  }
}

}  // namespace

void ApplyBlockChanges(const StepBlocks& blocks, int max_blocks, int32_t* table, cudaStream_t stream) {
  constexpr int kBlocks = 8;  // decode changes a block of one sequence in sixteen, a prompt brings a long run
  Launch(CopyChanges, kBlocks, 128, 0, stream, blocks, max_blocks, table);
}

}  // namespace coterie::cuda
