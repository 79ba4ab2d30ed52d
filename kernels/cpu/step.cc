#include <algorithm>

#include "common/check.h"
#include "kernels/cpu/cpu_backend.h"

namespace coterie::cpu {

CpuStep::CpuStep(const StepLimits& limits) {
  token_ids_.reserve(static_cast<size_t>(limits.max_tokens));
  kv_runs_.reserve(static_cast<size_t>(limits.max_tokens));
  const auto max_seqs = static_cast<size_t>(std::min(limits.max_seqs, limits.max_tokens));
  const auto max_adapters = static_cast<size_t>(limits.max_adapters);
  lora_groups_.reserve(max_seqs * max_adapters);
  lora_row_counts_.reserve(max_seqs * max_adapters);
  lora_rows_.reserve(static_cast<size_t>(limits.max_tokens) * max_adapters);
  lora_weights_.reserve(static_cast<size_t>(limits.max_tokens) * max_adapters);
  group_of_seq_.reserve(max_seqs);
  if (limits.vocab_size == 0) return;
  const auto rows = static_cast<size_t>(limits.max_logit_rows);
  keep.reserve(rows);
  top.reserve(rows * static_cast<size_t>(std::min(kMaxTopLogits, limits.vocab_size)));
  output.Reserve(limits.max_logit_rows);
  // Most steps have few rows, or need none of them whole.
  logits = AlignedBuffer(rows * static_cast<size_t>(limits.vocab_size) * sizeof(float),
                         AlignedBuffer::Pages::kLater);
}

void CpuStep::Begin(const Batch& batch, std::span<const int32_t> sampled, const CpuAdapterSlots& slots) {
  batch_ = &batch;
  token_ids_ = batch.token_ids;
  for (int32_t& id : token_ids_) {
    if (id >= 0) continue;
    const auto row = static_cast<size_t>(RowOf(id));
    COTERIE_CHECK_LT(row, sampled.size()) << "row of the step before";
    id = std::max(sampled[row], 0);  // kNotFinite: nobody uses what comes of it
  }
  output.Clear();
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
  GroupAdapters(slots);
}

// Levels ascending; within a level, groups in order of first use. Which rows share a group changes no result.
void CpuStep::GroupAdapters(const CpuAdapterSlots& slots) {
  const Batch& b = *batch_;
  const auto n_seqs = static_cast<size_t>(b.n_seqs());
  lora_groups_.clear();
  lora_row_counts_.clear();
  lora_rows_.clear();
  lora_weights_.clear();
  group_of_seq_.resize(n_seqs);
  const auto use_at = [&b](size_t s, int level) -> int32_t {  // -1: the sequence has no such adapter
    const int32_t use = b.adapter_offsets[s] + level;
    return use < b.adapter_offsets[s + 1] ? use : -1;
  };
  for (int level = 0;; ++level) {
    const size_t level_begin = lora_groups_.size();
    for (size_t s = 0; s < n_seqs; ++s) {
      const int32_t use = use_at(s, level);
      if (use < 0) continue;
      const PackedAdapter* adapter = slots.At(b.adapter_slots[use]);
      COTERIE_CHECK(adapter != nullptr) << "adapter slot " << b.adapter_slots[use] << " is empty";
      size_t g = level_begin;
      while (g < lora_groups_.size() && lora_groups_[g].adapter != adapter) ++g;
      if (g == lora_groups_.size()) {
        lora_groups_.push_back({adapter, {}, {}});
        lora_row_counts_.push_back(0);
      }
      group_of_seq_[s] = g;
      lora_row_counts_[g] += static_cast<size_t>(b.cu_seqlens[s + 1] - b.cu_seqlens[s]);
    }
    if (lora_groups_.size() == level_begin) break;
    // Where each group's rows go, then the rows.
    size_t end = lora_rows_.size();
    for (size_t g = level_begin; g < lora_groups_.size(); ++g) {
      const size_t n_rows = lora_row_counts_[g];
      lora_row_counts_[g] = end;
      end += n_rows;
    }
    lora_rows_.resize(end);
    lora_weights_.resize(end);
    for (size_t s = 0; s < n_seqs; ++s) {
      const int32_t use = use_at(s, level);
      if (use < 0) continue;
      size_t& at = lora_row_counts_[group_of_seq_[s]];
      for (int32_t t = b.cu_seqlens[s]; t < b.cu_seqlens[s + 1]; ++t, ++at) {
        lora_rows_[at] = t;
        lora_weights_[at] = b.adapter_weights[use];
      }
    }
  }
  // Each count is now where its group ends.
  size_t begin = 0;
  for (size_t g = 0; g < lora_groups_.size(); ++g) {
    const size_t n_rows = lora_row_counts_[g] - begin;
    lora_groups_[g].rows = std::span(lora_rows_).subspan(begin, n_rows);
    lora_groups_[g].weights = std::span(lora_weights_).subspan(begin, n_rows);
    begin = lora_row_counts_[g];
  }
}

void CpuBackend::BeginStep(StepContext* step, const Batch& batch, const Seats& seats,
                           const AdapterSlots& slots) {
  static_cast<CpuStep*>(step)->Begin(batch, static_cast<const CpuSeats&>(seats).sampled,
                                     static_cast<const CpuAdapterSlots&>(slots));
}

}  // namespace coterie::cpu
