#include "kernels/block_table.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <random>

#include "tests/testing/seed.h"

namespace coterie {
namespace {

TEST(BlockTableTest, IsWhatItsChangesMakeOfIt) {
  std::mt19937 random(testing::TestSeed());
  const auto below = [&](int n) { return static_cast<int>(random() % static_cast<unsigned>(n)); };
  constexpr int kSeats = 5, kMaxBlocks = 12;
  BlockTable table(kSeats, kMaxBlocks);
  std::map<int, std::vector<int32_t>> rows;
  for (int step = 0; step < 1000; ++step) {
    Batch batch;
    batch.Clear();
    for (int n = below(4); n > 0; --n) {
      const int seat = below(kSeats);
      std::vector<int32_t>& row = rows[seat];
      const int first = below(static_cast<int>(row.size()) + 1);  // grows, gets other blocks, starts anew
      row.resize(static_cast<size_t>(first));
      for (int more = below(kMaxBlocks - first + 1); more > 0; --more) row.push_back(below(1000));
      batch.ChangeBlocks(seat, first, std::span(row).subspan(static_cast<size_t>(first)));
    }
    table.Apply(batch);
    for (int seat = 0; seat < kSeats; ++seat) {
      ASSERT_TRUE(std::ranges::equal(table.Row(seat), rows[seat])) << "seat " << seat << ", step " << step;
    }
  }
}

TEST(BlockTableDeathTest, AGapOrTooManyBlocksAreNoChange) {
  BlockTable table(1, 2);
  Batch gap;
  gap.ChangeBlocks(0, 1, std::vector{7});
  EXPECT_DEATH(table.Apply(gap), "first changed block of seat 0");
  Batch many;
  many.ChangeBlocks(0, 0, std::vector{1, 2, 3});
  EXPECT_DEATH(table.Apply(many), "blocks of seat 0");
}

}  // namespace
}  // namespace coterie
