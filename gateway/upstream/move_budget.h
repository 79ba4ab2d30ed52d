#ifndef COTERIE_GATEWAY_UPSTREAM_MOVE_BUDGET_H_
#define COTERIE_GATEWAY_UPSTREAM_MOVE_BUDGET_H_

#include <algorithm>
#include <cstdint>

#include "absl/time/time.h"
#include "common/clock.h"

namespace coterie::gateway {

// How often one answer may lose its worker. An answer that gets on earns its moves back, by tokens and, where
// tokens are slow, by time. One that makes no progress earns none: so a prompt that kills whoever reads it
// ends after the few moves it began with, while a long answer outlives any number of failures. Not
// thread-safe.
class MoveBudget {
 public:
  // New tokens that pay for one move: a worker that dies of its own accord lives longer than that.
  static constexpr uint32_t kTokensPerMove = 4;
  // Or so much time, if anything at all came in it.
  static constexpr absl::Duration kTimePerMove = absl::Seconds(5);

  MoveBudget(uint32_t max_moves, MonotonicTime now) : max_(max_moves), left_(max_moves), since_(now) {}

  // Pays for a move of an answer that has `n_tokens` by now; false when it cannot.
  bool Take(MonotonicTime now, uint32_t n_tokens) {
    if (n_tokens > n_tokens_) {
      left_ += static_cast<double>(n_tokens - n_tokens_) / kTokensPerMove +
               std::max(0.0, absl::FDivDuration(now - since_, kTimePerMove));
      left_ = std::min(left_, max_);
      n_tokens_ = n_tokens;
      since_ = now;
    }
    if (left_ < 1) return false;
    left_ -= 1;
    return true;
  }

 private:
  double max_;
  double left_;
  uint32_t n_tokens_ = 0;  // when it last got on
  MonotonicTime since_;    // likewise
};

}  // namespace coterie::gateway

#endif  // COTERIE_GATEWAY_UPSTREAM_MOVE_BUDGET_H_
