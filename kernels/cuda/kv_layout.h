#ifndef COTERIE_KERNELS_CUDA_KV_LAYOUT_H_
#define COTERIE_KERNELS_CUDA_KV_LAYOUT_H_

#include <cuda_runtime.h>

#include <cstdint>

#include "kernels/decoder_ops.h"

namespace coterie::cuda {

// Keys and values on the device, in bfloat16. The keys of one head in one block lie one after the other, so
// that a warp reads them in whole lines; as do its values.
struct KvLayout {
  uint16_t* blocks = nullptr;  // [n_layers, n_blocks, 2 (K, V), n_kv_heads, kKvBlockTokens, head_dim]
  int n_layers = 0, n_blocks = 0, n_kv_heads = 0, head_dim = 0;
};

// The first of [kKvBlockTokens, head_dim] values: keys (0) or values (1) of a head in a block.
__host__ __device__ inline int64_t KvHeadOffset(const KvLayout& kv, int layer, int block, int k_or_v,
                                                int kv_head) {
  const int64_t plane = (static_cast<int64_t>(layer) * kv.n_blocks + block) * 2 + k_or_v;
  return (plane * kv.n_kv_heads + kv_head) * kKvBlockTokens * kv.head_dim;
}

}  // namespace coterie::cuda

#endif  // COTERIE_KERNELS_CUDA_KV_LAYOUT_H_
