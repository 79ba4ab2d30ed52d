#include "kernels/block_table.h"

#include <algorithm>

#include "common/check.h"

namespace coterie {

BlockTable::BlockTable(int n_seats, int max_blocks)
    : max_blocks_(static_cast<size_t>(max_blocks)),
      ids_(static_cast<size_t>(n_seats) * max_blocks_),
      n_blocks_(static_cast<size_t>(n_seats)) {}

void BlockTable::Apply(const Batch& batch) {
  for (const BlocksChange& change : batch.block_changes) {
    const auto seat = static_cast<size_t>(change.seat);
    COTERIE_CHECK_LT(seat, n_blocks_.size()) << "seat of a block change";
    const auto first = static_cast<size_t>(change.first);
    COTERIE_CHECK_LE(first, n_blocks_[seat]) << "first changed block of seat " << seat;
    n_blocks_[seat] = first + static_cast<size_t>(change.end - change.begin);
    COTERIE_CHECK_LE(n_blocks_[seat], max_blocks_) << "blocks of seat " << seat;
    std::copy(batch.changed_blocks.begin() + change.begin, batch.changed_blocks.begin() + change.end,
              ids_.begin() + static_cast<ptrdiff_t>(seat * max_blocks_ + first));
  }
}

}  // namespace coterie
