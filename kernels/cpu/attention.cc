#include <algorithm>
#include <cstring>

#include "common/check.h"
#include "kernels/cpu/cpu_backend.h"

namespace coterie::cpu {

void CpuBackend::RopeAndKvWrite(const StepContext& step, int layer, int n_heads, const DeviceBuffer* q_norm,
                                const DeviceBuffer* k_norm, float eps, const RopeTable& rope, float* qkv_dev,
                                KvCache* kv) {
  const CpuStep& cpu_step = static_cast<const CpuStep&>(step);
  const CpuKvCache& cache = static_cast<const CpuKvCache&>(*kv);
  const KvCacheShape& shape = cache.shape();
  const int64_t width = static_cast<int64_t>(n_heads + 2 * shape.n_kv_heads) * shape.head_dim;
  const int half = rope.rotary_dim / 2;
  COTERIE_CHECK_LE(rope.rotary_dim, shape.head_dim) << "rotary_dim";
  const Batch& batch = cpu_step.batch();
  ForRows(batch.n_tokens(), width, [&](int begin, int end) {
    RopeKvArgs args = {};
    args.n_heads = n_heads;
    args.n_kv_heads = shape.n_kv_heads;
    args.head_dim = shape.head_dim;
    args.v_stride = cache.v_stride();
    args.q_norm = q_norm == nullptr ? nullptr : q_norm->data();
    args.k_norm = k_norm == nullptr ? nullptr : k_norm->data();
    args.eps = eps;
    args.rotary_dim = rope.rotary_dim;
    args.type = cache.type();
    for (int t = begin; t < end; ++t) {
      const int64_t position = batch.positions[t];
      const int32_t block = cpu_step.token_blocks()[t];
      args.qkv = qkv_dev + t * width;
      args.cos = rope.cos->data() + position * half;
      args.sin = rope.sin->data() + position * half;
      args.k = cache.KeyBlock(layer, block);
      args.v = cache.ValueBlock(layer, block);
      args.slot = static_cast<int>(position % kKvBlockTokens);
      kernels_->rope_kv(args);
    }
  });
}

// Items are (tile of query vectors, KV head): the heads of Q that share a KV head and neighbouring tokens go
// together, so that a key is read once for up to 12 of them. Longest first: late tokens have the most keys.
void CpuBackend::PagedAttention(const StepContext& step, int layer, int n_heads, float scale, int window,
                                const float* qkv_dev, const KvCache& kv, float* out_dev) {
  const CpuStep& cpu_step = static_cast<const CpuStep&>(step);
  const CpuKvCache& cache = static_cast<const CpuKvCache&>(kv);
  const KvCacheShape& shape = cache.shape();
  const Batch& batch = cpu_step.batch();
  const int head_dim = shape.head_dim;
  const int n_kv_heads = shape.n_kv_heads;
  const int group = n_heads / n_kv_heads;
  COTERIE_CHECK_EQ(group * n_kv_heads, n_heads) << "query heads over KV heads";
  const int64_t width = static_cast<int64_t>(n_heads + 2 * n_kv_heads) * head_dim;

  thread_local std::vector<int64_t> first_tile;  // [n_seqs + 1]
  first_tile.assign(1, 0);
  for (int s = 0; s < batch.n_seqs(); ++s) {
    const int64_t vectors = static_cast<int64_t>(batch.cu_seqlens[s + 1] - batch.cu_seqlens[s]) * group;
    first_tile.push_back(first_tile.back() + (vectors + kAttentionRows - 1) / kAttentionRows);
  }
  const std::vector<int64_t>& tiles = first_tile;
  const int64_t n_tiles = tiles.back();

  pool_.RunItems(n_tiles * n_kv_heads, [&](int64_t item, int) {
    const int head = static_cast<int>(item % n_kv_heads);
    const int64_t tile = n_tiles - 1 - item / n_kv_heads;
    const int s = static_cast<int>(std::upper_bound(tiles.begin(), tiles.end(), tile) - tiles.begin()) - 1;
    const int64_t first = (tile - tiles[s]) * kAttentionRows;
    const int64_t vectors = static_cast<int64_t>(batch.cu_seqlens[s + 1] - batch.cu_seqlens[s]) * group;
    AttendArgs args;
    args.type = cache.type();
    args.k = cache.KeyBlock(layer, 0) + head * cache.key_head_bytes();
    args.v = cache.ValueBlock(layer, 0) + head * cache.value_head_bytes();
    args.block_bytes = cache.block_bytes();
    args.block_ids = batch.block_ids.data() + batch.block_offsets[s];
    args.head_dim = head_dim;
    args.v_stride = cache.v_stride();
    args.scale = scale;
    args.n_rows = static_cast<int>(std::min<int64_t>(kAttentionRows, vectors - first));
    for (int r = 0; r < args.n_rows; ++r) {
      const int64_t token = batch.cu_seqlens[s] + (first + r) / group;
      const int64_t q_head = head * group + (first + r) % group;
      const int32_t position = batch.positions[token];
      args.q[r] = qkv_dev + token * width + q_head * head_dim;
      args.out[r] = out_dev + (token * n_heads + q_head) * head_dim;
      args.lo[r] = window > 0 ? std::max(0, position - window + 1) : 0;
      args.hi[r] = position + 1;
    }
    kernels_->attend(args);
  });
}

void CpuBackend::FullAttention(const float* qkv_dev, std::span<const int32_t> cu_seqlens, int n_heads,
                               int head_dim, float* out_dev) {
  COTERIE_CHECK_LE(head_dim, kMaxHeadDim) << "head_dim";
  const int64_t n_texts = static_cast<int64_t>(cu_seqlens.size()) - 1;
  const int64_t width = 3 * static_cast<int64_t>(n_heads) * head_dim;
  const int v_stride = (head_dim + 15) / 16 * 16;
  const float scale = 1.0f / __builtin_sqrtf(static_cast<float>(head_dim));
  pool_.RunItems(n_texts * n_heads, [&](int64_t item, int thread) {
    const int64_t text = item / n_heads;
    const int64_t head = item % n_heads;
    const int64_t begin = cu_seqlens[text];
    const int n = cu_seqlens[text + 1] - cu_seqlens[text];
    if (n == 0) return;
    // This head's K and V in the layout of the KV cache, float32.
    const int64_t n_blocks = (n + kKeysPerBlock - 1) / kKeysPerBlock;
    const int64_t k_floats = static_cast<int64_t>(head_dim) * kKeysPerBlock;
    const int64_t v_floats = static_cast<int64_t>(v_stride) * kKeysPerBlock;
    AlignedBuffer& memory = transposed_[static_cast<size_t>(thread)];
    memory.Reserve(static_cast<size_t>(n_blocks * (k_floats + v_floats)) * sizeof(float));
    float* blocks = memory.as<float>();
    for (int t = 0; t < n; ++t) {
      float* block = blocks + t / kKeysPerBlock * (k_floats + v_floats);
      const int slot = t % kKeysPerBlock;
      const float* k = qkv_dev + (begin + t) * width + (n_heads + head) * head_dim;
      const float* v = qkv_dev + (begin + t) * width + (2 * n_heads + head) * head_dim;
      for (int d = 0; d < head_dim; ++d) block[d * kKeysPerBlock + slot] = k[d];
      std::memcpy(block + k_floats + static_cast<int64_t>(slot) * v_stride, v,
                  static_cast<size_t>(head_dim) * sizeof(float));
    }
    AttendArgs args;
    args.type = KvType::kF32;
    args.k = reinterpret_cast<const uint8_t*>(blocks);
    args.v = reinterpret_cast<const uint8_t*>(blocks + k_floats);
    args.block_bytes = (k_floats + v_floats) * static_cast<int64_t>(sizeof(float));
    args.block_ids = nullptr;
    args.head_dim = head_dim;
    args.v_stride = v_stride;
    args.scale = scale;
    for (int first = 0; first < n; first += kAttentionRows) {
      args.n_rows = std::min(kAttentionRows, n - first);
      for (int r = 0; r < args.n_rows; ++r) {
        args.q[r] = qkv_dev + (begin + first + r) * width + head * head_dim;
        args.out[r] = out_dev + ((begin + first + r) * n_heads + head) * head_dim;
        args.lo[r] = 0;
        args.hi[r] = n;
      }
      kernels_->attend(args);
    }
  });
}

}  // namespace coterie::cpu
