#include "kernels/step_plan.h"

#include <algorithm>

#include "common/check.h"

namespace coterie {
namespace {

// What a gate gives each adapter of the sequence, whatever the token and the module.
float ShareOf(const Batch& batch, size_t seq) {
  const Gate* gate = batch.GateOf(static_cast<int>(seq));
  if (gate == nullptr || gate->kind != GateKind::kGateless) return 1;
  return 1.0f / static_cast<float>(batch.adapter_offsets[seq + 1] - batch.adapter_offsets[seq]);
}

}  // namespace

StepPlan::StepPlan(const StepLimits& limits) {
  const auto max_tokens = static_cast<size_t>(limits.max_tokens);
  token_ids_.reserve(max_tokens);
  kv_runs_.reserve(max_tokens);
  const auto max_seqs = static_cast<size_t>(std::min(limits.max_seqs, limits.max_tokens));
  const auto max_adapters = static_cast<size_t>(limits.max_adapters);
  lora_groups_.reserve(max_seqs * max_adapters);
  lora_row_counts_.reserve(max_seqs * max_adapters);
  lora_rows_.reserve(max_tokens * max_adapters);
  lora_weights_.reserve(max_tokens * max_adapters);
  group_of_seq_.reserve(max_seqs);
  gated_sequences_.reserve(max_seqs);
  gated_adapters_.reserve(max_seqs * max_adapters);
  tiles_.reserve(max_tokens);
}

void StepPlan::Begin(const Batch& batch, const BlockTable& blocks, std::span<const int32_t> sampled) {
  COTERIE_CHECK_EQ(batch.positions.size(), batch.token_ids.size()) << "positions of the batch";
  COTERIE_CHECK_EQ(batch.seats.size() + 1, batch.cu_seqlens.size()) << "seats of the batch";
  COTERIE_CHECK_EQ(batch.adapter_offsets.size(), batch.cu_seqlens.size()) << "adapter_offsets of the batch";
  batch_ = &batch;
  blocks_ = &blocks;
  tiles_group_ = 0;
  batch.ResolveTokens(sampled, &token_ids_);
  FindKvRuns();
  GroupAdapters();
  FindGatedSequences();
}

void StepPlan::FindKvRuns() {
  const Batch& b = *batch_;
  kv_runs_.clear();
  for (int s = 0; s < b.n_seqs(); ++s) {
    const std::span<const int32_t> blocks = BlocksOf(s);
    for (int32_t t = b.cu_seqlens[s]; t < b.cu_seqlens[s + 1]; ++t) {
      const int32_t position = b.positions[t];
      const int32_t place = position / kKvBlockTokens;
      COTERIE_CHECK_LT(place, std::ssize(blocks)) << "block of position " << position << " of sequence " << s;
      const bool follows = t > b.cu_seqlens[s] && position == b.positions[t - 1] + 1;
      if (follows && position % kKvBlockTokens != 0) {
        kv_runs_.back().n_tokens += 1;
      } else {
        kv_runs_.push_back({t, 1, blocks[place]});
      }
    }
  }
}

std::span<const AttentionTile> StepPlan::AttentionTiles(int group, int max_vectors) const {
  if (tiles_group_ == group && tiles_max_ == max_vectors) return tiles_;
  tiles_group_ = group;
  tiles_max_ = max_vectors;
  tiles_.clear();
  for (int32_t s = 0; s < batch_->n_seqs(); ++s) {
    const int32_t n_vectors = (batch_->cu_seqlens[s + 1] - batch_->cu_seqlens[s]) * group;
    for (int32_t first = 0; first < n_vectors; first += max_vectors) {
      tiles_.push_back({s, first, std::min(max_vectors, n_vectors - first)});
    }
  }
  return tiles_;
}

void StepPlan::GroupAdapters() {
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
      const int32_t slot = b.adapter_slots[use];
      size_t g = level_begin;
      while (g < lora_groups_.size() && lora_groups_[g].slot != slot) ++g;
      if (g == lora_groups_.size()) {
        lora_groups_.push_back({slot, {}, {}});
        lora_row_counts_.push_back(0);
      }
      group_of_seq_[s] = g;
      lora_row_counts_[g] += static_cast<size_t>(b.cu_seqlens[s + 1] - b.cu_seqlens[s]);
    }
    if (lora_groups_.size() == level_begin) break;
    // First where each group begins, then its rows.
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
      const float weight = b.adapter_weights[use] * ShareOf(b, s);
      for (int32_t t = b.cu_seqlens[s]; t < b.cu_seqlens[s + 1]; ++t, ++at) {
        lora_rows_[at] = t;
        lora_weights_[at] = weight;
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

void StepPlan::FindGatedSequences() {
  const Batch& b = *batch_;
  gated_sequences_.clear();
  gated_adapters_.clear();
  for (int32_t s = 0; s < static_cast<int32_t>(b.gates.size()); ++s) {
    const Gate* gate = b.GateOf(s);
    if (gate == nullptr || gate->kind == GateKind::kGateless) continue;
    gated_sequences_.push_back({s, *gate, {}});
    // Groups come level by level, and a sequence has one group a level.
    for (size_t g = 0; g < lora_groups_.size(); ++g) {
      const std::span<const int32_t> rows = lora_groups_[g].rows;
      const auto first = std::lower_bound(rows.begin(), rows.end(), b.cu_seqlens[s]);
      if (first == rows.end() || *first != b.cu_seqlens[s]) continue;
      gated_adapters_.push_back({static_cast<int32_t>(g), static_cast<int32_t>(first - rows.begin())});
    }
  }
  size_t begin = 0;
  for (GatedSequence& gated : gated_sequences_) {
    const int32_t s = gated.sequence;
    const auto n = static_cast<size_t>(b.adapter_offsets[s + 1] - b.adapter_offsets[s]);
    gated.adapters = std::span(gated_adapters_).subspan(begin, n);
    begin += n;
  }
  COTERIE_CHECK_EQ(begin, gated_adapters_.size()) << "adapters of gated sequences";
}

}  // namespace coterie
