#ifndef COTERIE_KERNELS_CPU_TOKEN_COUNTS_H_
#define COTERIE_KERNELS_CPU_TOKEN_COUNTS_H_

#include <cstddef>
#include <cstdint>
#include <span>

#include "kernels/cpu/aligned_buffer.h"

namespace coterie::cpu {

// How often each token occurs in the sequence at each seat, for penalties. Counted token by token as they
// come, since counting anew would walk over all of a long answer for every token. The memory of a seat is
// fetched when it is first used.
class TokenCounts {
 public:
  // Flag of an entry: the token occurs in the prompt or the answer. The lower bits count it in the answer.
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
