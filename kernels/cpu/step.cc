#include "common/check.h"
#include "kernels/cpu/cpu_backend.h"

namespace coterie::cpu {

CpuStep::CpuStep(const StepLimits& limits) {
  kv_runs_.reserve(static_cast<size_t>(limits.max_tokens));
  lora_groups_.reserve(static_cast<size_t>(limits.max_seqs));
}

void CpuStep::Begin(const Batch& batch) {
  batch_ = &batch;
  const int n_seqs = batch.n_seqs();
  COTERIE_CHECK_EQ(batch.positions.size(), batch.token_ids.size()) << "positions of the batch";
  COTERIE_CHECK_EQ(batch.block_offsets.size(), batch.cu_seqlens.size()) << "block_offsets of the batch";
  COTERIE_CHECK_EQ(batch.adapter_offsets.size(), batch.cu_seqlens.size()) << "adapter_offsets of the batch";
  kv_runs_.clear();
  for (int s = 0; s < n_seqs; ++s) {
    const int32_t n_blocks = batch.block_offsets[s + 1] - batch.block_offsets[s];
    for (int32_t t = batch.cu_seqlens[s]; t < batch.cu_seqlens[s + 1]; ++t) {
      const int32_t position = batch.positions[t];
      const int32_t place = position / kKvBlockTokens;
      COTERIE_CHECK_LT(place, n_blocks) << "block of position " << position << " of sequence " << s;
      const bool follows = t > batch.cu_seqlens[s] && position == batch.positions[t - 1] + 1;
      if (follows && position % kKvBlockTokens != 0) {
        kv_runs_.back().n_tokens += 1;
      } else {
        kv_runs_.push_back({t, 1, batch.block_ids[batch.block_offsets[s] + place]});
      }
    }
  }
  GroupAdapters();
}

// Levels ascending; within a level, groups in order of first use. Which rows share a group changes no result.
void CpuStep::GroupAdapters() {
  n_lora_groups_ = 0;
  const Batch& b = *batch_;
  const int n_seqs = b.n_seqs();
  for (int level = 0;; ++level) {
    bool any = false;
    const size_t level_begin = n_lora_groups_;
    for (int s = 0; s < n_seqs; ++s) {
      const int32_t use = b.adapter_offsets[s] + level;
      if (use >= b.adapter_offsets[s + 1]) continue;
      any = true;
      const PackedAdapter* adapter = b.adapters[b.adapter_slots[use]];
      const float weight = b.adapter_weights[use];
      size_t g = level_begin;
      while (g < n_lora_groups_ && (lora_groups_[g].adapter != adapter || lora_groups_[g].weight != weight))
        ++g;
      if (g == n_lora_groups_) {
        if (lora_groups_.size() == n_lora_groups_) lora_groups_.emplace_back();
        LoraGroup& fresh = lora_groups_[n_lora_groups_++];
        fresh.adapter = adapter;
        fresh.weight = weight;
        fresh.rows.clear();
      }
      for (int32_t t = b.cu_seqlens[s]; t < b.cu_seqlens[s + 1]; ++t) lora_groups_[g].rows.push_back(t);
    }
    if (!any) return;
  }
}

void CpuBackend::BeginStep(StepContext* step, const Batch& batch) {
  static_cast<CpuStep*>(step)->Begin(batch);
}

}  // namespace coterie::cpu
