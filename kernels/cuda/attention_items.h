#ifndef COTERIE_KERNELS_CUDA_ATTENTION_ITEMS_H_
#define COTERIE_KERNELS_CUDA_ATTENTION_ITEMS_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "kernels/cuda/step_data.h"
#include "kernels/step_plan.h"

namespace coterie::cuda {

// Most vectors of a tile. In a step of decode alone one tile holds the query heads of one token that share a
// KV head, and four warps share its keys; else each warp of a block has 16 vectors of its own.
constexpr int AttentionTileVectorsFor(bool decode_alone, int group) {
  return decode_alone && group <= kAttentionDecodeTileVectors ? kAttentionDecodeTileVectors
                                                              : kAttentionTileVectors;
}

// Most items of a step.
size_t MaxAttentionItems(int max_tokens, int max_seqs, int group);

// The work items of a step's attention (AttentionItem), from its tiles. A tile that is long for what a block
// of this step has to do is split over several blocks, which meet in scratch memory: those of decode, mostly.
// Other tiles are one item each, and their block goes through all splits by itself. The longest items come
// first. Allocates nothing once it has seen the largest step.
class AttentionItems {
 public:
  AttentionItems(int group, int n_kv_heads, int n_processors)
      : group_(group), n_kv_heads_(n_kv_heads), n_blocks_(3 * n_processors) {}

  // The items of the plan's step, valid until the next call.
  std::span<const AttentionItem> Build(const StepPlan& plan, int tile_vectors);

 private:
  AttentionItem ItemOf(const AttentionTile& tile, const Batch& batch) const;

  const int group_;
  const int n_kv_heads_;
  const int n_blocks_;                     // that attend at a time
  std::vector<AttentionItem> tile_items_;  // [tiles], each over all of its keys
  std::vector<AttentionItem> items_;
};

}  // namespace coterie::cuda

#endif  // COTERIE_KERNELS_CUDA_ATTENTION_ITEMS_H_
