#ifndef COTERIE_TESTS_GPU_PAGED_STEP_H_
#define COTERIE_TESTS_GPU_PAGED_STEP_H_

#include <algorithm>
#include <memory>
#include <numeric>
#include <vector>

#include "device_arrays.h"
#include "kernels/block_table.h"
#include "kernels/cuda/attention_items.h"
#include "kernels/cuda/kv_layout.h"
#include "kernels/cuda/step_data.h"
#include "kernels/step_plan.h"

namespace coterie::cuda {

// Tokens [begin, end) of a sequence: its part of a step.
struct StepPart {
  int sequence = 0;
  int begin = 0;
  int end = 0;
};

// Sequences in scattered KV blocks, each at a seat of its own, and steps over parts of them.
class PagedStepTest : public DeviceArraysTest {
 protected:
  // Sequences of so many tokens at most. One block more than they need is nobody's.
  void MakeSequences(const std::vector<int>& lengths) {
    lengths_ = lengths;
    int n_blocks = 1, longest = 1;
    for (const int length : lengths) {
      n_blocks += KvBlocksFor(length);
      longest = std::max(longest, KvBlocksFor(length));
    }
    std::vector<int32_t> ids(static_cast<size_t>(n_blocks));
    std::iota(ids.begin(), ids.end(), 0);
    std::shuffle(ids.begin(), ids.end(), random_);
    n_blocks_ = n_blocks;
    max_blocks_ = longest + 1;
    seats_.resize(lengths.size() + 2);
    std::iota(seats_.begin(), seats_.end(), 0);
    std::shuffle(seats_.begin(), seats_.end(), random_);
    blocks_ = std::make_unique<BlockTable>(static_cast<int>(seats_.size()), max_blocks_);
    table_.assign(seats_.size() * static_cast<size_t>(max_blocks_),
                  -1);  // what was never set may be anything
    Batch changes;
    size_t next = 0;
    for (size_t s = 0; s < lengths.size(); ++s) {
      const auto n = static_cast<size_t>(KvBlocksFor(lengths[s]));
      changes.ChangeBlocks(seats_[s], 0, std::span(ids).subspan(next, n));
      std::copy_n(ids.begin() + static_cast<std::ptrdiff_t>(next), n,
                  table_.begin() + static_cast<std::ptrdiff_t>(seats_[s]) * max_blocks_);
      next += n;
    }
    blocks_->Apply(changes);
    device_table_ = Device(table_);
  }
  int BlockOf(int sequence, int position) const {
    return table_[static_cast<size_t>(seats_[static_cast<size_t>(sequence)] * max_blocks_ +
                                      position / kKvBlockTokens)];
  }

  // The step's data with its work items of attention, for a device of so many processors; of
  // none: no tile is split.
  StepData MakeStep(const std::vector<StepPart>& parts, int group, int n_kv_heads, int tile_vectors,
                    int n_processors = 4) {
    Batch batch;
    batch.cu_seqlens = {0};
    batch.adapter_offsets = {0};
    std::vector<int32_t> sequences;
    for (const StepPart& part : parts) {
      for (int position = part.begin; position < part.end; ++position) {
        batch.token_ids.push_back(1);
        batch.positions.push_back(position);
        sequences.push_back(static_cast<int32_t>(batch.seats.size()));
      }
      batch.cu_seqlens.push_back(batch.n_tokens());
      batch.seats.push_back(seats_[static_cast<size_t>(part.sequence)]);
      batch.adapter_offsets.push_back(0);
    }
    StepLimits limits;
    limits.max_tokens = batch.n_tokens();
    limits.max_seqs = batch.n_seqs();
    StepPlan plan(limits);
    plan.Begin(batch, *blocks_, {});
    AttentionItems builder(group, n_kv_heads, std::max(1, n_processors));
    const std::span<const AttentionItem> built = builder.Build(plan, tile_vectors);
    EXPECT_LE(built.size(), MaxAttentionItems(batch.n_tokens(), batch.n_seqs(), group));
    std::vector<AttentionItem> items(built.begin(), built.end());
    if (n_processors == 0) {
      std::erase_if(items, [](const AttentionItem& item) { return item.first_split > 0; });
      for (AttentionItem& item : items) {
        item.end_split = item.last_position / kAttentionSplit + 1;
        item.partial_row = -1;
      }
    }

    StepData step;
    step.n_tokens = Device<int32_t>({batch.n_tokens()});
    step.token_ids = Device(batch.token_ids);
    step.positions = Device(batch.positions);
    step.sequences = Device(sequences);
    step.cu_seqlens = Device(batch.cu_seqlens);
    step.seats = Device(batch.seats);
    step.block_table = device_table_;
    step.max_blocks = max_blocks_;
    step.n_items = Device<int32_t>({static_cast<int32_t>(items.size())});
    step.items = Device(items);
    return step;
  }

  std::vector<int> lengths_;
  std::vector<int> seats_;
  std::vector<int32_t> table_;  // [seats, max_blocks_]
  const int32_t* device_table_ = nullptr;
  std::unique_ptr<BlockTable> blocks_;
  int n_blocks_ = 0;
  int max_blocks_ = 0;
};

}  // namespace coterie::cuda

#endif  // COTERIE_TESTS_GPU_PAGED_STEP_H_
