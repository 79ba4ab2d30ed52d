// The work items of attention: each split of each tile is in one of them, within what scratch memory holds.
#include <gtest/gtest.h>

#include <map>
#include <set>
#include <tuple>
#include <vector>

#include "kernels/cuda/attention_items.h"
#include "paged_step.h"

namespace coterie::cuda {
namespace {

class AttentionItemsTest : public ::testing::Test {
 protected:
  // A step of sequences, each with its tokens [begin, end).
  std::vector<AttentionItem> Build(const std::vector<StepPart>& parts, int group, int n_kv_heads,
                                   int tile_vectors, int n_processors) {
    batch_.Clear();
    batch_.cu_seqlens = {0};
    batch_.adapter_offsets = {0};
    int longest = 0;
    for (const StepPart& part : parts) longest = std::max(longest, KvBlocksFor(part.end));
    BlockTable table(static_cast<int>(parts.size()), longest);
    const std::vector<int32_t> ids(static_cast<size_t>(longest), 0);
    for (size_t s = 0; s < parts.size(); ++s) {
      for (int position = parts[s].begin; position < parts[s].end; ++position) {
        batch_.token_ids.push_back(0);
        batch_.positions.push_back(position);
      }
      batch_.cu_seqlens.push_back(batch_.n_tokens());
      batch_.adapter_offsets.push_back(0);
      batch_.seats.push_back(static_cast<int32_t>(s));
      batch_.ChangeBlocks(static_cast<int>(s), 0, ids);
    }
    table.Apply(batch_);
    StepLimits limits;
    limits.max_tokens = batch_.n_tokens();
    limits.max_seqs = batch_.n_seqs();
    StepPlan plan(limits);
    plan.Begin(batch_, table, {});
    AttentionItems builder(group, n_kv_heads, n_processors);
    const auto items = builder.Build(plan, tile_vectors);
    Check({items.begin(), items.end()}, parts, group, tile_vectors);
    return {items.begin(), items.end()};
  }

  void Check(const std::vector<AttentionItem>& items, const std::vector<StepPart>& parts, int group,
             int tile_vectors) {
    EXPECT_LE(items.size(), MaxAttentionItems(batch_.n_tokens(), batch_.n_seqs(), group));
    std::set<std::tuple<int, int, int>> done;  // seat, vector of the sequence, split
    std::map<int, std::pair<int, int>> counters;
    std::set<int> rows;
    for (size_t i = 0; i < items.size(); ++i) {
      const AttentionItem& item = items[i];
      const StepPart& part = parts[static_cast<size_t>(item.seat)];
      const int n_vectors = (part.end - part.begin) * group;
      ASSERT_EQ(item.first_token, batch_.cu_seqlens[static_cast<size_t>(item.seat)]);
      ASSERT_TRUE(item.n_vectors > 0 && item.n_vectors <= tile_vectors &&
                  item.first_vector + item.n_vectors <= n_vectors);
      ASSERT_EQ(item.first_position, part.begin + item.first_vector / group);
      ASSERT_EQ(item.last_position, part.begin + (item.first_vector + item.n_vectors - 1) / group);
      const int n_splits = item.last_position / kAttentionSplit + 1;
      ASSERT_TRUE(item.first_split >= 0 && item.first_split < item.end_split && item.end_split <= n_splits);
      if (item.partial_row < 0) {
        ASSERT_EQ(item.end_split - item.first_split, n_splits) << "a tile of one item has all splits";
      } else {
        ASSERT_EQ(item.end_split - item.first_split, 1);
        ASSERT_LT(item.counter, kAttentionCounters);
        const auto tile = std::pair(item.seat, item.first_vector);
        ASSERT_EQ(counters.try_emplace(item.counter, tile).first->second, tile) << "a tile's own counter";
        for (int r = 0; r < item.n_vectors; ++r) {
          const int row = item.partial_row + item.first_split * item.n_vectors + r;
          ASSERT_LT(row, kAttentionPartialRows);
          ASSERT_TRUE(rows.insert(row).second) << "a split's own rows";
        }
      }
      for (int v = item.first_vector; v < item.first_vector + item.n_vectors; ++v) {
        for (int split = item.first_split; split < item.end_split; ++split) {
          ASSERT_TRUE(done.insert({item.seat, v, split}).second);
        }
      }
      if (i > 0 && items[i - 1].partial_row < 0 && item.partial_row < 0) {
        EXPECT_GE(items[i - 1].end_split, item.end_split) << "the longest first";
      }
    }
    size_t n = 0;
    for (const StepPart& part : parts) {
      const int n_vectors = (part.end - part.begin) * group;
      for (int first = 0; first < n_vectors; first += tile_vectors) {
        const int last = std::min(first + tile_vectors, n_vectors) - 1;
        n += static_cast<size_t>(last - first + 1) *
             static_cast<size_t>((part.begin + last / group) / kAttentionSplit + 1);
      }
    }
    EXPECT_EQ(done.size(), n);
  }

  Batch batch_;
};

TEST_F(AttentionItemsTest, EverySplitOfEveryTileIsInOneItem) {
  std::mt19937 random(testing::TestSeed());
  const auto between = [&](int low, int high) {
    return std::uniform_int_distribution<int>(low, high)(random);
  };
  for (int i = 0; i < 60; ++i) {
    std::vector<StepPart> parts;
    const bool decode = between(0, 1) == 1;
    for (int s = between(1, 20); s > 0; --s) {
      const int begin = between(0, 2) == 0 ? 0 : between(0, 6000);
      parts.push_back({s, begin, begin + (decode ? 1 : between(1, 200))});
    }
    const int group = between(1, 20);
    Build(parts, group, between(1, 8), AttentionTileVectorsFor(decode, group), between(1, 400));
    if (HasFatalFailure()) return;
  }
}

TEST_F(AttentionItemsTest, ALongSequenceAloneIsSharedByTheWholeDevice) {
  const auto items = Build({{0, 131071, 131072}}, 4, 8, kAttentionDecodeTileVectors, 132);
  EXPECT_EQ(items.size(), 256u);
}

TEST_F(AttentionItemsTest, APromptsTilesGoThroughTheirKeysByThemselvesWhereThereAreEnough) {
  for (const AttentionItem& item : Build({{0, 0, 4096}}, 4, 8, kAttentionTileVectors, 132))
    EXPECT_EQ(item.partial_row, -1);
  // A late chunk of few tokens is split.
  for (const AttentionItem& item : Build({{0, 8000, 8016}}, 4, 8, kAttentionTileVectors, 132)) {
    EXPECT_NE(item.partial_row, -1);
  }
}

TEST_F(AttentionItemsTest, MoreLongSequencesThanScratchMemoryHoldsAreNotSplit) {
  std::vector<StepPart> parts;
  for (int s = 0; s < 40; ++s) parts.push_back({s, 131071, 131072});
  size_t n_whole = 0;
  for (const AttentionItem& item : Build(parts, 8, 8, kAttentionDecodeTileVectors, 132))
    n_whole += item.partial_row < 0;
  EXPECT_EQ(n_whole, 40u - kAttentionPartialRows / (256 * 8));
}

}  // namespace
}  // namespace coterie::cuda
