#include "kernels/step_plan.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <random>
#include <set>
#include <tuple>

#include "tests/testing/seed.h"

namespace coterie {
namespace {

// Sequences in the middle of prompts and decodes, each under up to three of five adapters.
Batch RandomBatch(std::mt19937* random) {
  const auto below = [&](int n) { return static_cast<int>((*random)() % static_cast<unsigned>(n)); };
  Batch batch;
  batch.Clear();
  const int n_seqs = 1 + below(8);
  for (int s = 0; s < n_seqs; ++s) {
    const int first = below(70);
    const int n = below(3) == 0 ? 1 + below(60) : 1;
    for (int i = 0; i < n; ++i) {
      batch.token_ids.push_back(below(4) == 0 ? FromRow(below(3)) : below(100));
      batch.positions.push_back(first + i);
    }
    batch.cu_seqlens.push_back(batch.n_tokens());
    std::vector<int32_t> blocks(static_cast<size_t>(KvBlocksFor(first + n)));
    for (int32_t& block : blocks) block = below(1000);
    batch.seats.push_back(n_seqs - s);
    batch.ChangeBlocks(n_seqs - s, 0, blocks);
    for (int use = below(4); use > 0; --use) {
      batch.adapter_slots.push_back(below(5));
      batch.adapter_weights.push_back(static_cast<float>(1 + below(31)) / 32);
    }
    batch.adapter_offsets.push_back(static_cast<int32_t>(batch.adapter_slots.size()));
  }
  return batch;
}

std::vector<int32_t> BlocksOfSeat(const Batch& batch, int seat) {
  for (const BlocksChange& change : batch.block_changes) {
    if (change.seat == seat) {
      return {batch.changed_blocks.begin() + change.begin, batch.changed_blocks.begin() + change.end};
    }
  }
  return {};
}

class StepPlanTest : public ::testing::Test {
 protected:
  void ForRandomPlans(const std::function<void(const Batch&, const StepPlan&)>& check) {
    std::mt19937 random(testing::TestSeed());
    StepPlan plan({.max_tokens = 64, .max_seqs = 4, .max_adapters = 2});  // and larger ones
    const std::vector<int32_t> sampled = {7, kNotFinite, 9};
    for (int i = 0; i < 500; ++i) {
      const Batch batch = RandomBatch(&random);
      BlockTable blocks(16, 16);
      blocks.Apply(batch);
      plan.Begin(batch, blocks, sampled);
      check(batch, plan);
      if (HasFatalFailure()) return;
    }
  }
};

TEST_F(StepPlanTest, TokensOfTheStepBeforeAreLookedUp) {
  ForRandomPlans([](const Batch& batch, const StepPlan& plan) {
    ASSERT_EQ(plan.token_ids().size(), batch.token_ids.size());
    for (size_t t = 0; t < batch.token_ids.size(); ++t) {
      const int32_t id = batch.token_ids[t];
      const int32_t expected = id >= 0 ? id : id == FromRow(0) ? 7 : id == FromRow(2) ? 9 : 0;
      ASSERT_EQ(plan.token_ids()[t], expected) << id;
    }
  });
}

TEST_F(StepPlanTest, EveryTokenIsInOneRunOfItsOwnBlock) {
  ForRandomPlans([](const Batch& batch, const StepPlan& plan) {
    int32_t next = 0;
    for (const KvRun& run : plan.kv_runs()) {
      ASSERT_EQ(run.first_token, next);
      ASSERT_GT(run.n_tokens, 0);
      const auto s =
          static_cast<size_t>(std::upper_bound(batch.cu_seqlens.begin(), batch.cu_seqlens.end(), next) -
                              batch.cu_seqlens.begin() - 1);
      for (int32_t t = run.first_token; t < run.first_token + run.n_tokens; ++t) {
        ASSERT_LT(t, batch.cu_seqlens[s + 1]) << "a run goes on into the next sequence";
        ASSERT_EQ(batch.positions[t], batch.positions[run.first_token] + t - run.first_token);
        ASSERT_EQ(run.block, BlocksOfSeat(batch, batch.seats[s])[batch.positions[t] / kKvBlockTokens]);
      }
      next += run.n_tokens;
    }
    ASSERT_EQ(next, batch.n_tokens());
  });
}

TEST_F(StepPlanTest, EveryUseIsInOneGroupOfItsAdapterWithItsWeight) {
  ForRandomPlans([](const Batch& batch, const StepPlan& plan) {
    using Use = std::tuple<int32_t, int32_t, float>;  // row, slot, weight
    std::multiset<Use> expected, found;
    std::map<int32_t, std::vector<int32_t>> order, order_found;  // of each row's adapters
    for (int32_t s = 0; s < batch.n_seqs(); ++s) {
      for (int32_t t = batch.cu_seqlens[s]; t < batch.cu_seqlens[s + 1]; ++t) {
        for (int32_t use = batch.adapter_offsets[s]; use < batch.adapter_offsets[s + 1]; ++use) {
          expected.insert({t, batch.adapter_slots[use], batch.adapter_weights[use]});
          order[t].push_back(batch.adapter_slots[use]);
        }
      }
    }
    for (const LoraGroup& group : plan.lora_groups()) {
      ASSERT_EQ(group.rows.size(), group.weights.size());
      ASSERT_TRUE(std::is_sorted(group.rows.begin(), group.rows.end()));
      for (size_t i = 0; i < group.rows.size(); ++i) {
        found.insert({group.rows[i], group.slot, group.weights[i]});
        order_found[group.rows[i]].push_back(group.slot);
      }
    }
    ASSERT_EQ(found, expected);
    ASSERT_EQ(order_found, order);
  });
}

TEST_F(StepPlanTest, SequencesThatBlendTheSameAdaptersShareGroupsWhateverTheirWeights) {
  Batch batch;
  batch.Clear();
  for (int s = 0; s < 5; ++s) {
    batch.token_ids.push_back(1);
    batch.positions.push_back(0);
    batch.cu_seqlens.push_back(s + 1);
    batch.seats.push_back(s);
    batch.ChangeBlocks(s, 0, std::vector{s});
    batch.adapter_slots.insert(batch.adapter_slots.end(), {3, 1});
    batch.adapter_weights.insert(batch.adapter_weights.end(), {0.1f * static_cast<float>(s), 0.5f});
    batch.adapter_offsets.push_back(2 * (s + 1));
  }
  StepPlan plan({.max_tokens = 8, .max_seqs = 8, .max_adapters = 2});
  BlockTable blocks(5, 1);
  blocks.Apply(batch);
  plan.Begin(batch, blocks, {});
  ASSERT_EQ(plan.lora_groups().size(), 2u);
  EXPECT_EQ(plan.lora_groups()[0].slot, 3);
  EXPECT_EQ(plan.lora_groups()[1].slot, 1);
  EXPECT_EQ(plan.lora_groups()[0].rows.size(), 5u);
}

TEST_F(StepPlanTest, TilesCoverEveryQueryVectorOnce) {
  ForRandomPlans([](const Batch& batch, const StepPlan& plan) {
    for (const auto& [group, most] : {std::pair{3, 48}, {1, 4}, {8, 16}, {3, 48}}) {
      std::vector<int> covered(static_cast<size_t>(batch.n_tokens() * group), 0);
      int32_t last_sequence = 0;
      for (const AttentionTile& tile : plan.AttentionTiles(group, most)) {
        ASSERT_GE(tile.sequence, last_sequence);
        last_sequence = tile.sequence;
        ASSERT_TRUE(tile.n_vectors > 0 && tile.n_vectors <= most);
        const int32_t begin = batch.cu_seqlens[tile.sequence] * group + tile.first_vector;
        ASSERT_LE(begin + tile.n_vectors, batch.cu_seqlens[tile.sequence + 1] * group);
        for (int v = 0; v < tile.n_vectors; ++v) ++covered[static_cast<size_t>(begin + v)];
      }
      ASSERT_EQ(std::ranges::count(covered, 1), std::ssize(covered));
    }
  });
}

}  // namespace
}  // namespace coterie
