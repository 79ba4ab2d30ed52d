#ifndef COTERIE_KERNELS_CUDA_BLOCK_TABLE_H_
#define COTERIE_KERNELS_CUDA_BLOCK_TABLE_H_

#include <cuda_runtime.h>

#include <cstdint>

#include "kernels/cuda/step_upload.h"

namespace coterie::cuda {

// Applies a step's changes to the block table on the device, table [n_seats, max_blocks]: the twin of
// BlockTable. No length is kept: positions say how far a row is read.
void ApplyBlockChanges(const StepBlocks& blocks, int max_blocks, int32_t* table, cudaStream_t stream);

}  // namespace coterie::cuda

#endif  // COTERIE_KERNELS_CUDA_BLOCK_TABLE_H_
