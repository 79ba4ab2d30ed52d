#include "kernels/cpu/token_counts.h"

#include <algorithm>

#include "common/check.h"

namespace coterie::cpu {

TokenCounts::TokenCounts(int n_seats, int vocab_size)
    : n_seats_(n_seats),
      vocab_size_(static_cast<size_t>(vocab_size)),
      counts_(static_cast<size_t>(n_seats) * vocab_size_ * sizeof(uint32_t), AlignedBuffer::Pages::kLater) {}

uint32_t* TokenCounts::Row(int seat) const {
  COTERIE_CHECK(seat >= 0 && seat < n_seats_ && counts_.data() != nullptr)
      << "token counts of seat " << seat << " of " << n_seats_;
  return counts_.as<uint32_t>() + static_cast<size_t>(seat) * vocab_size_;
}

void TokenCounts::Reset(int seat, std::span<const int32_t> prompt, std::span<const int32_t> answer) {
  uint32_t* const row = Row(seat);
  std::fill_n(row, vocab_size_, 0);
  for (const int32_t token : prompt) row[token] |= kSeen;
  for (const int32_t token : answer) Add(seat, token);
}

void TokenCounts::Add(int seat, int32_t token) {
  uint32_t& count = Row(seat)[token];
  count = (count + 1) | kSeen;
}

}  // namespace coterie::cpu
