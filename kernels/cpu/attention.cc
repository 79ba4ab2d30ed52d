#include <algorithm>
#include <cmath>

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
  const std::span<const KvRun> runs = cpu_step.plan().kv_runs();
  // A run belongs to one thread: tokens that share a block may share words of it.
  const int64_t run_floats = width * batch.n_tokens() / std::max<int64_t>(1, std::ssize(runs));
  ForRows(static_cast<int>(runs.size()), run_floats, [&](int begin, int end, int) {
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
    args.k_head_bytes = cache.key_head_bytes();
    args.v_head_bytes = cache.value_head_bytes();
    for (int i = begin; i < end; ++i) {
      const KvRun& run = runs[static_cast<size_t>(i)];
      const int64_t position = batch.positions[run.first_token];
      args.qkv = qkv_dev + run.first_token * width;
      args.cos = rope.cos->data() + position * half;
      args.sin = rope.sin->data() + position * half;
      args.n_tokens = run.n_tokens;
      args.slot = static_cast<int>(position % kKvBlockTokens);
      args.k = cache.KeyBlock(layer, run.block);
      args.v = cache.ValueBlock(layer, run.block);
      kernels_->rope_kv(args);
    }
  });
}

// A work item is a tile of query vectors and a KV head. The query heads that share the KV head and
// neighbouring tokens are in one tile, so that a key is read once for up to 48 of them. The longest items go
// first: late tokens have the most keys.
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

  const std::span<const AttentionTile> tiles = cpu_step.plan().AttentionTiles(group, kAttentionRows);
  const int64_t n_tiles = std::ssize(tiles);
  pool_.RunItems(n_tiles * n_kv_heads, [&](int64_t item, int) {
    const int head = static_cast<int>(item % n_kv_heads);
    const AttentionTile& tile = tiles[static_cast<size_t>(n_tiles - 1 - item / n_kv_heads)];
    const int s = tile.sequence;
    AttendArgs args;
    args.type = cache.type();
    args.k = cache.KeyBlock(layer, 0) + head * cache.key_head_bytes();
    args.v = cache.ValueBlock(layer, 0) + head * cache.value_head_bytes();
    args.block_bytes = cache.block_bytes();
    args.block_ids = cpu_step.plan().BlocksOf(s).data();
    args.head_dim = head_dim;
    args.v_stride = cache.v_stride();
    args.scale = scale;
    args.n_rows = tile.n_vectors;
    for (int r = 0; r < args.n_rows; ++r) {
      const int vector = tile.first_vector + r;
      const int64_t token = batch.cu_seqlens[s] + vector / group;
      const int64_t q_head = head * group + vector % group;
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
  // A text with a row out of range (kSquaresLimit) gets NaN for every row, as rope_kv sees to for decoders.
  thread_local std::vector<uint8_t> spoilt_texts;  // [n_texts]
  spoilt_texts.assign(static_cast<size_t>(n_texts), 0);
  std::vector<uint8_t>& spoilt = spoilt_texts;  // the pool's threads have a thread_local of their own
  pool_.RunItems(n_texts, [&](int64_t text, int) {
    for (int64_t row = cu_seqlens[text]; row < cu_seqlens[text + 1]; ++row) {
      float squares;
      kernels_->dot_rows(qkv_dev + row * width, qkv_dev + row * width, 1, width, &squares);
      if (!(squares < kSquaresLimit)) spoilt[static_cast<size_t>(text)] = 1;
    }
  });
  pool_.RunItems(n_texts * n_heads, [&](int64_t item, int thread) {
    const int64_t text = item / n_heads;
    const int64_t head = item % n_heads;
    const int64_t begin = cu_seqlens[text];
    const int n = cu_seqlens[text + 1] - cu_seqlens[text];
    if (n == 0) return;
    if (spoilt[static_cast<size_t>(text)] != 0) {
      for (int64_t row = begin; row < begin + n; ++row) {
        std::fill_n(out_dev + (row * n_heads + head) * head_dim, head_dim, NAN);
      }
      return;
    }
    // This head's K and V as blocks of a KV cache: bfloat16 in fast mode.
    const KvType type = mode_ == NumericsMode::kFast ? KvType::kBF16 : KvType::kF32;
    const int64_t n_blocks = (n + kKeysPerBlock - 1) / kKeysPerBlock;
    const int64_t plane = static_cast<int64_t>(v_stride) * kKeysPerBlock * KvTypeBytes(type);
    AlignedBuffer& memory = transposed_[static_cast<size_t>(thread)];
    memory.Reserve(static_cast<size_t>(n_blocks * 2 * plane));
    KvWriteArgs write;
    write.type = type;
    write.head_dim = head_dim;
    write.v_stride = v_stride;
    write.stride = width;
    write.slot = 0;
    for (int64_t block = 0; block < n_blocks; ++block) {
      const int64_t first = block * kKeysPerBlock;
      write.k = qkv_dev + (begin + first) * width + (n_heads + head) * head_dim;
      write.v = write.k + static_cast<int64_t>(n_heads) * head_dim;
      write.n_tokens = static_cast<int>(std::min<int64_t>(kKeysPerBlock, n - first));
      write.k_block = memory.data() + block * 2 * plane;
      write.v_block = write.k_block + plane;
      kernels_->write_kv(write);
    }
    AttendArgs args;
    args.type = type;
    args.k = memory.data();
    args.v = memory.data() + plane;
    args.block_bytes = 2 * plane;
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
