#include "kernels/batch.h"

#include <gtest/gtest.h>

namespace coterie {
namespace {

// Sequences of 3, 1 and 4 tokens; the second on the base, the third under two adapters.
Batch Step() {
  Batch step;
  step.token_ids = {10, 11, 12, 20, 30, 31, 32, 33};
  step.positions = {16, 17, 18, 4, 0, 1, 2, 3};
  step.cu_seqlens = {0, 3, 4, 8};
  step.seats = {4, 0, 9};
  step.ChangeBlocks(9, 0, std::vector{2});
  step.adapter_slots = {1, 0, 1};
  step.adapter_weights = {1.0f, 0.25f, 0.75f};
  step.adapter_offsets = {0, 1, 1, 3};
  step.logit_rows = {2, 3, 5, 7};
  return step;
}

TEST(Batch, KeepsARangeOfTokensWithTheirSequencesBlocksAndAdapters) {
  Batch part;
  part.KeepTokens(Step(), 2, 6);
  EXPECT_EQ(part.token_ids, (std::vector<int32_t>{12, 20, 30, 31}));
  EXPECT_EQ(part.positions, (std::vector<int32_t>{18, 4, 0, 1}));
  EXPECT_EQ(part.cu_seqlens, (std::vector<int32_t>{0, 1, 2, 4}));
  EXPECT_EQ(part.seats, Step().seats);
  EXPECT_TRUE(part.block_changes.empty()) << "the whole step's were taken";
  EXPECT_EQ(part.adapter_slots, Step().adapter_slots);
  EXPECT_EQ(part.adapter_weights, Step().adapter_weights);
  EXPECT_EQ(part.adapter_offsets, Step().adapter_offsets);
  EXPECT_EQ(part.logit_rows, (std::vector<int32_t>{0, 1, 3}));
}

TEST(Batch, LeavesOutSequencesWithoutTokensInTheRange) {
  Batch part;
  part.KeepTokens(Step(), 4, 7);
  EXPECT_EQ(part.token_ids, (std::vector<int32_t>{30, 31, 32}));
  EXPECT_EQ(part.cu_seqlens, (std::vector<int32_t>{0, 3}));
  EXPECT_EQ(part.seats, (std::vector<int32_t>{9}));
  EXPECT_EQ(part.adapter_slots, (std::vector<int32_t>{0, 1}));
  EXPECT_EQ(part.logit_rows, (std::vector<int32_t>{1}));
  part.KeepTokens(Step(), 0, 2);
  EXPECT_TRUE(part.logit_rows.empty());
  EXPECT_EQ(part.n_seqs(), 1);
}

TEST(Batch, KeepsTheTokensWhoseLogitsAreWanted) {
  Batch rows;
  rows.KeepLogitRows(Step());
  EXPECT_EQ(rows.token_ids, (std::vector<int32_t>{12, 20, 31, 33}));
  EXPECT_EQ(rows.cu_seqlens, (std::vector<int32_t>{0, 1, 2, 4}));
  EXPECT_EQ(rows.adapter_offsets, Step().adapter_offsets);
  EXPECT_EQ(rows.logit_rows, (std::vector<int32_t>{0, 1, 2, 3}));
}

}  // namespace
}  // namespace coterie
