#ifndef COTERIE_KERNELS_STEP_PLAN_H_
#define COTERIE_KERNELS_STEP_PLAN_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "kernels/batch.h"
#include "kernels/block_table.h"
#include "kernels/decoder_ops.h"

namespace coterie {

// Consecutive tokens of one sequence whose keys stand side by side in one KV block.
struct KvRun {
  int32_t first_token;
  int32_t n_tokens;
  int32_t block;
};

// A row group: the rows of a step that have one adapter at the same position of their sequences' adapter
// lists.
struct LoraGroup {
  int32_t slot = -1;
  std::span<const int32_t> rows;   // ascending
  std::span<const float> weights;  // [rows]
};

// Where the rows of a gated sequence stand in the row group of one of its adapters.
struct GatedAdapter {
  int32_t group = 0;      // of StepPlan::lora_groups()
  int32_t first_row = 0;  // of its rows
};

// A sequence whose adapters are weighted by a gate that looks at tokens and modules. (A gateless one's
// weights are in its row groups.)
struct GatedSequence {
  int32_t sequence = 0;
  Gate gate;
  std::span<const GatedAdapter> adapters;  // all of the sequence's, in order
};

// Neighbouring query vectors of one sequence that attend together. A token has as many vectors for a KV head
// as query heads share it: vector v is query head v % group of token v / group of the sequence in the step.
struct AttentionTile {
  int32_t sequence;
  int32_t first_vector;
  int32_t n_vectors;
};

// The work items of a step, derived on the host before it runs and the same for every backend: which tokens
// write which KV block, which rows use which adapter, which query vectors attend together. No result depends
// on this grouping. Refilled for each step; allocates nothing once it has seen the largest.
class StepPlan {
 public:
  explicit StepPlan(const StepLimits& limits);

  // Borrows `batch` and `blocks`, to which the batch's changes were applied. `sampled` holds the tokens of
  // the step before, for FromRow() ids.
  void Begin(const Batch& batch, const BlockTable& blocks, std::span<const int32_t> sampled);

  const Batch& batch() const { return *batch_; }
  std::span<const int32_t> token_ids() const { return token_ids_; }  // [n_tokens], without FromRow
  std::span<const int32_t> BlocksOf(int seq) const { return blocks_->Row(batch_->seats[seq]); }
  std::span<const KvRun> kv_runs() const { return kv_runs_; }  // every token is in one
  // All sequences' first adapters, then all second ones and so on; within such a level in order of first use.
  std::span<const LoraGroup> lora_groups() const { return lora_groups_; }
  std::span<const GatedSequence> gated_sequences() const { return gated_sequences_; }
  // Tiles of at most `max_vectors`, sequence by sequence, for `group` query heads to a KV head.
  std::span<const AttentionTile> AttentionTiles(int group, int max_vectors) const;

 private:
  void FindKvRuns();
  void FindGatedSequences();
  void GroupAdapters();

  const Batch* batch_ = nullptr;
  const BlockTable* blocks_ = nullptr;
  std::vector<int32_t> token_ids_;
  std::vector<KvRun> kv_runs_;
  std::vector<LoraGroup> lora_groups_;
  std::vector<int32_t> lora_rows_;       // of the groups, one after the other
  std::vector<float> lora_weights_;      // of those rows
  std::vector<size_t> lora_row_counts_;  // [groups]
  std::vector<size_t> group_of_seq_;     // [n_seqs], at the level being grouped
  std::vector<GatedSequence> gated_sequences_;
  std::vector<GatedAdapter> gated_adapters_;
  // Computed by the first call of a step: every layer asks for the same.
  mutable std::vector<AttentionTile> tiles_;
  mutable int tiles_group_ = 0;  // 0: not computed for this step yet
  mutable int tiles_max_ = 0;
};

}  // namespace coterie

#endif  // COTERIE_KERNELS_STEP_PLAN_H_
