#include "worker/engine/kv_manager.h"

#include <algorithm>
#include <map>
#include <memory>
#include <random>
#include <set>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "worker/engine/sequence.h"

namespace coterie {
namespace {

std::unique_ptr<Sequence> SequenceOf(std::vector<int32_t> tokens) {
  auto s = std::make_unique<Sequence>();
  PrefixHasher hasher;
  s->tokens = std::move(tokens);
  s->n_prompt = s->n_tokens();
  s->rows[0].root = hasher.Root(Sha256("base"), {}, "");
  s->rows[0].keys = hasher.Chain(s->rows[0].root, s->tokens);
  return s;
}

std::vector<int32_t> Range(int n, int first = 0) {
  std::vector<int32_t> tokens(n);
  for (int i = 0; i < n; ++i) tokens[i] = first + i;
  return tokens;
}

// Computes a whole sequence and lets it go.
void Visit(KvManager* kv, std::vector<int32_t> tokens) {
  auto s = SequenceOf(std::move(tokens));
  kv->AttachPrefix(s.get(), s->n_tokens() - 1);
  ASSERT_TRUE(kv->Reserve(s.get(), s->n_tokens()));
  kv->Commit(s.get(), s->n_tokens());
  kv->Release(s.get());
}

int Hit(KvManager* kv, std::vector<int32_t> tokens) {
  auto s = SequenceOf(std::move(tokens));
  kv->AttachPrefix(s.get(), s->n_tokens() - 1);
  const int n = s->n_computed;
  kv->Release(s.get());
  return n;
}

TEST(KvManagerTest, BlocksAreCountedAndComeBack) {
  KvManager kv(8);
  auto s = SequenceOf(Range(40));
  EXPECT_EQ(KvManager::MissingBlocks(*s, 40), 3);
  ASSERT_TRUE(kv.Reserve(s.get(), 40));
  EXPECT_EQ(kv.n_used(), 3);
  EXPECT_FALSE(kv.Reserve(s.get(), 8 * 16 + 1));
  EXPECT_EQ(kv.n_used(), 3) << "a failed Reserve takes nothing";
  ASSERT_TRUE(kv.Reserve(s.get(), 8 * 16));
  EXPECT_EQ(kv.n_available(), 0);
  kv.Release(s.get());
  EXPECT_EQ(kv.n_available(), 8);
  EXPECT_EQ(kv.n_cached(), 0) << "nothing was computed";
}

TEST(KvManagerTest, OnlyWholeComputedBlocksAreShared) {
  KvManager kv(16);
  auto s = SequenceOf(Range(40));
  ASSERT_TRUE(kv.Reserve(s.get(), 40));
  kv.Commit(s.get(), 31);
  EXPECT_EQ(kv.n_cached(), 1);
  EXPECT_EQ(Hit(&kv, Range(40)), 16);
  kv.Commit(s.get(), 32);
  EXPECT_EQ(Hit(&kv, Range(40)), 32);
  EXPECT_EQ(Hit(&kv, Range(33)), 32);
  EXPECT_EQ(Hit(&kv, Range(32)), 16) << "one token must be left to compute";
  EXPECT_EQ(Hit(&kv, Range(16)), 0);
  kv.Release(s.get());
}

TEST(KvManagerTest, SequencesInFlightShareTheSameBlocks) {
  KvManager kv(16);
  auto a = SequenceOf(Range(40)), b = SequenceOf(Range(40));
  ASSERT_TRUE(kv.Reserve(a.get(), 40));
  ASSERT_TRUE(kv.Reserve(b.get(), 40));
  EXPECT_EQ(kv.n_used(), 6);
  kv.Commit(a.get(), 40);
  kv.Commit(b.get(), 40);
  EXPECT_EQ(a->rows[0].blocks[0], b->rows[0].blocks[0]);
  EXPECT_EQ(a->rows[0].blocks[1], b->rows[0].blocks[1]);
  EXPECT_NE(a->rows[0].blocks[2], b->rows[0].blocks[2]) << "the unfinished block is each one's own";
  EXPECT_EQ(kv.n_used(), 4);
  kv.Release(a.get());
  EXPECT_EQ(kv.n_used(), 3);
  kv.Release(b.get());
}

TEST(KvManagerTest, EvictionTakesLeavesOfTheLeastRecentlyUsedFirst) {
  KvManager kv(8);
  Visit(&kv, Range(48));        // A: 3 blocks
  Visit(&kv, Range(48, 1000));  // B: 3 blocks
  EXPECT_EQ(kv.n_cached(), 6);
  Visit(&kv, Range(49));  // A again: now B is the older one. Its own 4th block is not whole
  auto s = SequenceOf(Range(48, 2000));
  ASSERT_TRUE(kv.Reserve(s.get(), 48));  // 2 free blocks and one evicted
  EXPECT_EQ(Hit(&kv, Range(49, 1000)), 32) << "B lost its deepest block";
  EXPECT_EQ(Hit(&kv, Range(49)), 48) << "A is whole";
  kv.Release(s.get());
}

TEST(KvManagerTest, ABlockInUseIsNeverEvicted) {
  KvManager kv(6);
  Visit(&kv, Range(48));
  auto holder = SequenceOf(Range(49));
  kv.AttachPrefix(holder.get(), 48);
  EXPECT_EQ(holder->n_computed, 48);
  EXPECT_EQ(kv.n_available(), 3);
  auto s = SequenceOf(Range(96, 1000));
  EXPECT_FALSE(kv.Reserve(s.get(), 64));
  EXPECT_TRUE(kv.Reserve(s.get(), 48));
  kv.Release(s.get());
  kv.Release(holder.get());
  EXPECT_EQ(Hit(&kv, Range(49)), 48);
}

TEST(KvManagerTest, EventsTellExactlyWhichKeysAreCached) {
  KvManager kv(12);
  std::set<uint64_t> keys;
  std::vector<PrefixEvent> events;
  std::mt19937 random(1);
  for (int i = 0; i < 200; ++i) {
    Visit(&kv, Range(16 * (1 + random() % 6), 100000 * (random() % 9)));
    events.clear();
    kv.TakeEvents(&events);
    for (const PrefixEvent& event : events) {
      if (event.added) {
        EXPECT_TRUE(keys.insert(event.key).second);
      } else {
        EXPECT_EQ(keys.erase(event.key), 1u);
      }
    }
    EXPECT_EQ(static_cast<int>(keys.size()), kv.n_cached());
  }
}

// Random sequences come, grow, share and go; whatever happens, no block has two owners of different content,
// and a cached chain never has a hole.
TEST(KvManagerTest, RandomUseKeepsEveryInvariant) {
  constexpr int kBlocks = 40;
  KvManager kv(kBlocks);
  std::mt19937 random(7);
  std::vector<std::unique_ptr<Sequence>> live;
  for (int i = 0; i < 5000; ++i) {
    const int choice = random() % 4;
    if (choice == 0 && live.size() < 8) {
      std::vector<int32_t> tokens = Range(1 + random() % 100, 1000 * (random() % 3));
      if (random() % 2) tokens.back() = 5;
      auto s = SequenceOf(std::move(tokens));
      kv.AttachPrefix(s.get(), s->n_tokens() - 1);
      live.push_back(std::move(s));
    } else if (choice == 1 && !live.empty()) {
      const size_t at = random() % live.size();
      kv.Release(live[at].get());
      live.erase(live.begin() + static_cast<ptrdiff_t>(at));
    } else if (!live.empty()) {
      Sequence* s = live[random() % live.size()].get();
      if (s->n_computed == s->n_tokens()) s->tokens.push_back(static_cast<int32_t>(random() % 2));
      const int next = std::min<int>(s->n_tokens(), s->n_computed + 1 + random() % 40);
      if (kv.Reserve(s, next)) kv.Commit(s, next);
    }
    std::map<int32_t, std::vector<int32_t>> content;  // of blocks in use, as their sequences see it
    for (const auto& s : live) {
      ASSERT_LE(s->n_computed, s->n_blocks() * kPrefixBlockTokens);
      for (int b = 0; b * kPrefixBlockTokens < s->n_computed; ++b) {
        const int end = std::min(s->n_computed, (b + 1) * kPrefixBlockTokens);
        std::vector<int32_t> prefix(s->tokens.begin(), s->tokens.begin() + end);
        const auto [found, fresh] = content.emplace(s->rows[0].blocks[b], prefix);
        if (!fresh) {
          ASSERT_EQ(found->second, prefix) << "block " << s->rows[0].blocks[b] << " at step " << i;
        }
      }
    }
    std::set<int32_t> used;
    for (const auto& s : live) used.insert(s->rows[0].blocks.begin(), s->rows[0].blocks.end());
    ASSERT_EQ(static_cast<int>(used.size()), kv.n_used());
  }
  for (auto& s : live) kv.Release(s.get());
  EXPECT_EQ(kv.n_available(), kBlocks);
}

}  // namespace
}  // namespace coterie
