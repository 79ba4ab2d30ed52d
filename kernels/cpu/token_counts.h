#ifndef COTERIE_KERNELS_CPU_TOKEN_COUNTS_H_
#define COTERIE_KERNELS_CPU_TOKEN_COUNTS_H_

#include <cstddef>
#include <cstdint>
#include <span>

#include "kernels/cpu/aligned_buffer.h"

namespace coterie::cpu {

// How often the sequence of each seat has had each token, for penalties: kept, so that a token of a long
// answer costs no walk over all of it. Memory comes seat by seat, when one is first used.
class TokenCounts {
 public:
  // Of an entry: the token stands in the prompt or the answer. The other bits count it in the answer.
  static constexpr uint32_t kSeen = 1u << 31;

  TokenCounts() = default;
  TokenCounts(int n_seats, int vocab_size);

  // Ids are within the vocabulary.
  void Reset(int seat, std::span<const int32_t> prompt, std::span<const int32_t> answer);
  void Add(int seat, int32_t token);  // to the answer
  std::span<const uint32_t> Of(int seat) const { return {Row(seat), vocab_size_}; }

 private:
  uint32_t* Row(int seat) const;

  int n_seats_ = 0;
  size_t vocab_size_ = 0;
  AlignedBuffer counts_;  // [n_seats, vocab_size]
};

}  // namespace coterie::cpu

#endif  // COTERIE_KERNELS_CPU_TOKEN_COUNTS_H_
