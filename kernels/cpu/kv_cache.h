#ifndef COTERIE_KERNELS_CPU_KV_CACHE_H_
#define COTERIE_KERNELS_CPU_KV_CACHE_H_

#include "kernels/cpu/aligned_buffer.h"
#include "kernels/cpu/kernel_table.h"
#include "kernels/decoder_ops.h"

namespace coterie::cpu {

static_assert(kKeysPerBlock == kKvBlockTokens);

// Layout: layer, then block, then K of every KV head, then V of every KV head, each as KvType says
// (kernel_table.h); v_stride is head_dim rounded up to 16.
class CpuKvCache final : public KvCache {
 public:
  // The caller fetches the pages of memory() (AlignedBuffer::FetchPages) before use.
  static StatusOr<std::unique_ptr<CpuKvCache>> Create(const KvCacheShape& shape, KvType type);

  // One block of one layer.
  static size_t BlockBytes(const KvCacheShape& shape, KvType type);

  const KvCacheShape& shape() const override { return shape_; }
  size_t bytes() const override { return memory_.n_bytes(); }

  const AlignedBuffer& memory() const { return memory_; }
  KvType type() const { return type_; }
  int v_stride() const { return v_stride_; }
  int64_t block_bytes() const { return k_block_bytes_ + v_block_bytes_; }  // one block of one layer
  uint8_t* KeyBlock(int layer, int64_t block) const {
    return memory_.data() + (static_cast<int64_t>(layer) * shape_.n_blocks + block) * block_bytes();
  }
  uint8_t* ValueBlock(int layer, int64_t block) const { return KeyBlock(layer, block) + k_block_bytes_; }
  // Bytes from one KV head to the next within KeyBlock and ValueBlock.
  int64_t key_head_bytes() const { return k_block_bytes_ / shape_.n_kv_heads; }
  int64_t value_head_bytes() const { return v_block_bytes_ / shape_.n_kv_heads; }

 private:
  CpuKvCache(const KvCacheShape& shape, KvType type);
  KvCacheShape shape_;
  KvType type_;
  int v_stride_;
  int64_t k_block_bytes_;
  int64_t v_block_bytes_;
  AlignedBuffer memory_;
};

}  // namespace coterie::cpu

#endif  // COTERIE_KERNELS_CPU_KV_CACHE_H_
