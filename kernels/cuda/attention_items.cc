#include "kernels/cuda/attention_items.h"

#include <algorithm>

#include "common/check.h"

namespace coterie::cuda {
namespace {

int SplitsFor(int n_keys) { return (n_keys + kAttentionSplit - 1) / kAttentionSplit; }

int SplitsOf(const AttentionItem& item) { return item.end_split - item.first_split; }

}  // namespace

size_t MaxAttentionItems(int max_tokens, int max_seqs, int group) {
  // A tile that is not full is its sequence's last. A split takes at least one row of scratch memory.
  const auto full = static_cast<size_t>(max_tokens) * static_cast<size_t>(group) / kAttentionTileVectors;
  return full + static_cast<size_t>(max_seqs) + kAttentionPartialRows;
}

std::span<const AttentionItem> AttentionItems::Build(const StepPlan& plan, int tile_vectors) {
  const Batch& batch = plan.batch();
  tile_items_.clear();
  int64_t n_keys = 0;
  for (const AttentionTile& tile : plan.AttentionTiles(group_, tile_vectors)) {
    tile_items_.push_back(ItemOf(tile, batch));
    n_keys += tile_items_.back().last_position + 1;
  }
  // What splits of a tile write to scratch memory is little where the tile is (one head's keys of 512
  // positions are 128 KiB or more, a vector's result is 0.5 KiB), so small tiles are split long before they
  // are a block's share.
  const int64_t share = n_keys * n_kv_heads_ / n_blocks_;
  const auto is_long = [&](const AttentionItem& item) {
    return static_cast<int64_t>(item.last_position + 1) * kAttentionTileVectors > share * item.n_vectors;
  };
  const auto longest_first = [](const AttentionItem& a, const AttentionItem& b) {
    if (SplitsOf(a) != SplitsOf(b)) return SplitsOf(a) > SplitsOf(b);
    return a.first_token != b.first_token ? a.first_token < b.first_token : a.first_vector < b.first_vector;
  };
  std::sort(tile_items_.begin(), tile_items_.end(), longest_first);

  items_.clear();
  int n_rows = 0, n_counters = 0;
  size_t n_whole = 0;
  for (AttentionItem& item : tile_items_) {
    const int n_splits = SplitsOf(item);
    const bool has_room =
        n_rows + n_splits * item.n_vectors <= kAttentionPartialRows && n_counters < kAttentionCounters;
    if (n_splits == 1 || !is_long(item) || !has_room) {
      tile_items_[n_whole++] = item;
      continue;
    }
    item.partial_row = n_rows;
    item.counter = n_counters;
    n_rows += n_splits * item.n_vectors;
    ++n_counters;
    for (int split = 0; split < n_splits; ++split) {
      items_.push_back(item);
      items_.back().first_split = split;
      items_.back().end_split = split + 1;
    }
  }
  // Whole tiles that are longer than a split go before the splits, the others after them.
  const auto first_short =
      std::find_if(tile_items_.begin(), tile_items_.begin() + static_cast<std::ptrdiff_t>(n_whole),
                   [](const AttentionItem& item) { return SplitsOf(item) == 1; });
  items_.insert(items_.end(), first_short, tile_items_.begin() + static_cast<std::ptrdiff_t>(n_whole));
  items_.insert(items_.begin(), tile_items_.begin(), first_short);
  return items_;
}

AttentionItem AttentionItems::ItemOf(const AttentionTile& tile, const Batch& batch) const {
  const int32_t first_token = batch.cu_seqlens[static_cast<size_t>(tile.sequence)];
  const auto position_of = [&](int32_t vector) {
    return batch.positions[static_cast<size_t>(first_token + vector / group_)];
  };
  AttentionItem item = {};
  item.seat = batch.seats[static_cast<size_t>(tile.sequence)];
  item.first_token = first_token;
  item.first_vector = tile.first_vector;
  item.n_vectors = tile.n_vectors;
  item.first_position = position_of(tile.first_vector);
  item.last_position = position_of(tile.first_vector + tile.n_vectors - 1);
  item.end_split = SplitsFor(item.last_position + 1);
  item.partial_row = -1;
  return item;
}

}  // namespace coterie::cuda
