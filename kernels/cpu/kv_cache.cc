#include "kernels/cpu/kv_cache.h"

namespace coterie::cpu {

CpuKvCache::CpuKvCache(const KvCacheShape& shape, KvType type)
    : shape_(shape), type_(type), v_stride_((shape.head_dim + 15) / 16 * 16) {
  const int64_t bytes = KvTypeBytes(type);
  const int k_dim = type == KvType::kBF16 ? (shape.head_dim + 1) / 2 * 2 : shape.head_dim;
  k_block_bytes_ = bytes * shape.n_kv_heads * k_dim * kKeysPerBlock;
  v_block_bytes_ = bytes * shape.n_kv_heads * v_stride_ * kKeysPerBlock;
}

size_t CpuKvCache::BlockBytes(const KvCacheShape& shape, KvType type) {
  return static_cast<size_t>(CpuKvCache(shape, type).block_bytes());
}

StatusOr<std::unique_ptr<CpuKvCache>> CpuKvCache::Create(const KvCacheShape& shape, KvType type) {
  if (shape.n_layers <= 0 || shape.n_blocks <= 0 || shape.n_kv_heads <= 0 || shape.head_dim <= 0 ||
      shape.head_dim > kMaxHeadDim) {
    return absl::InvalidArgumentError(absl::StrCat(
        "KV cache of ", shape.n_layers, " layers, ", shape.n_blocks, " blocks, ", shape.n_kv_heads,
        " KV heads, head_dim ", shape.head_dim, " (at most ", kMaxHeadDim, ")"));
  }
  auto cache = std::unique_ptr<CpuKvCache>(new CpuKvCache(shape, type));
  const size_t n_bytes = static_cast<size_t>(cache->block_bytes()) * static_cast<size_t>(shape.n_layers) *
                         static_cast<size_t>(shape.n_blocks);
  cache->memory_ = AlignedBuffer(n_bytes, AlignedBuffer::Pages::kLater);
  if (cache->memory_.data() == nullptr) {
    return absl::ResourceExhaustedError(absl::StrCat("no memory for ", n_bytes, " bytes of KV cache"));
  }
  return cache;
}

}  // namespace coterie::cpu
