#ifndef COTERIE_KERNELS_BLOCK_TABLE_H_
#define COTERIE_KERNELS_BLOCK_TABLE_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "kernels/batch.h"

namespace coterie {

// The KV blocks of the sequence at each seat, in order of position: [n_seats, max_blocks]. It lives from step
// to step, and a step brings only its changes: over a long context hardly a block changes.
class BlockTable {
 public:
  // `max_blocks`: of one sequence.
  BlockTable(int n_seats, int max_blocks);

  // Applies the batch's block changes.
  void Apply(const Batch& batch);
  std::span<const int32_t> Row(int seat) const {
    return {ids_.data() + static_cast<size_t>(seat) * max_blocks_, n_blocks_[static_cast<size_t>(seat)]};
  }

 private:
  const size_t max_blocks_;
  std::vector<int32_t> ids_;      // [n_seats, max_blocks]
  std::vector<size_t> n_blocks_;  // [n_seats]
};

}  // namespace coterie

#endif  // COTERIE_KERNELS_BLOCK_TABLE_H_
