#include "kernels/cuda/pinned_pool.h"

#include <gtest/gtest.h>

#include <random>
#include <vector>

#include "control.h"
#include "tests/testing/seed.h"

namespace coterie::cuda {
namespace {

PinnedPool::Block Take(PinnedPool* pool, size_t bytes) {
  auto block = pool->Take(bytes, "a test");
  EXPECT_TRUE(block.ok()) << block.status();
  return *std::move(block);
}

TEST(PinnedPoolTest, HandsOutAgainWhatWastesLittle) {
  const auto pool = std::make_shared<PinnedPool>(100'000);
  void* first = nullptr;
  {
    const PinnedPool::Block block = Take(pool.get(), 10'000);
    first = block.data();
    EXPECT_EQ(block.bytes(), 10'000u);
  }
  EXPECT_EQ(pool->kept_bytes(), 10'000u);
  {
    const PinnedPool::Block smaller = Take(pool.get(), 8'000), again = Take(pool.get(), 10'000);
    EXPECT_EQ(smaller.data(), first);
    EXPECT_EQ(smaller.bytes(), 8'000u);
    EXPECT_NE(again.data(), first);
  }
  EXPECT_EQ(pool->kept_bytes(), 20'000u);
  const PinnedPool::Block small = Take(pool.get(), 5'000), large = Take(pool.get(), 20'000);
  EXPECT_EQ(pool->kept_bytes(), 20'000u) << "neither fits well";
}

TEST(PinnedPoolTest, KeepsNoMoreThanItMay) {
  std::mt19937_64 random(testing::TestSeed());
  constexpr size_t kMost = 50'000;
  const auto pool = std::make_shared<PinnedPool>(kMost);
  std::vector<PinnedPool::Block> blocks;
  size_t used = 0;
  for (int i = 0; i < 2'000; ++i) {
    if (blocks.empty() || random() % 2 == 0) {
      blocks.push_back(Take(pool.get(), 1 + random() % 20'000));
    } else {
      std::swap(blocks[random() % blocks.size()], blocks.back());
      blocks.pop_back();
    }
    if (blocks.size() > 6) blocks.pop_back();
    used = 0;
    for (const PinnedPool::Block& block : blocks) used += block.bytes();
    ASSERT_LE(pool->kept_bytes(), kMost) << i;
    if (used > kMost) {
      ASSERT_EQ(pool->kept_bytes(), 0u) << i << ": more than all is in use";
    } else {
      ASSERT_LE(pool->kept_bytes() + used, kMost) << i;
    }
  }
}

TEST(PinnedPoolTest, GivesBackWhatItKeepsBeforeItFails) {
  if (!emulation::kIsEmulated) GTEST_SKIP() << "no allocation fails to order";
  const auto pool = std::make_shared<PinnedPool>(100'000);
  Take(pool.get(), 10'000);
  emulation::FailAllocationAfter(0);
  const PinnedPool::Block block = Take(pool.get(), 50'000);
  EXPECT_EQ(pool->kept_bytes(), 0u);
  emulation::FailAllocationAfter(0);
  EXPECT_TRUE(pool->Take(60'000, "a test").ok()) << "a second time";
  emulation::ForgetFailures();
}

TEST(PinnedPoolTest, BlocksOutliveWhoMadeThem) {
  auto pool = std::make_shared<PinnedPool>(100'000);
  PinnedPool::Block block = Take(pool.get(), 1'000);
  pool.reset();
  block.As<uint8_t>()[999] = 1;
}

}  // namespace
}  // namespace coterie::cuda
