#ifndef COTERIE_WORKER_GANG_TOLD_ROWS_H_
#define COTERIE_WORKER_GANG_TOLD_ROWS_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "common/status.h"

namespace coterie {

// How a row of logits travels to the gang's leader: all of it, or its largest and the mass of all others. The
// others are then taken as equally probable: what they add to a token that another member tells. Numbers
// travel as they stand in memory. Not thread-safe.
class ToldRows {
 public:
  // `top_tokens` of `vocab_size`; 0: all.
  ToldRows(int vocab_size, uint32_t top_tokens);

  bool tells_all() const { return n_told_ == vocab_size_; }
  size_t row_bytes() const;

  // `logits` [vocab_size] to `out` [row_bytes]. Of equal logits the lower ids are told first.
  void Pack(std::span<const float> logits, std::span<std::byte> out);
  // The way back; marks in `told` [MaskWords] the tokens that were told. DataLoss when `in` names a token
  // that is none.
  Status Unpack(std::span<const std::byte> in, std::span<float> logits, std::span<uint32_t> told) const;

 private:
  struct Told {
    int32_t token;
    float logit;
  };

  const size_t vocab_size_;
  const size_t n_told_;
  std::vector<int32_t> order_;  // [vocab_size], of Pack
};

}  // namespace coterie

#endif  // COTERIE_WORKER_GANG_TOLD_ROWS_H_
