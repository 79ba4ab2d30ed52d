#ifndef COTERIE_COMMON_LOG_ALLOWANCE_H_
#define COTERIE_COMMON_LOG_ALLOWANCE_H_

#include <cstdint>
#include <optional>

#include "absl/time/time.h"
#include "common/clock.h"

namespace coterie {

// Bounds what one fault that comes again and again, perhaps with every message, may write into the log: a
// line an interval, which says how many were left out. Not thread-safe.
class LogAllowance {
 public:
  explicit LogAllowance(absl::Duration interval) : interval_(interval) {}

  // It happened. What the line is to say: how often it happened since the last line, this time left out;
  // nothing when no line is due.
  std::optional<uint64_t> Note(MonotonicTime now) {
    if (now < next_line_) {
      ++n_left_out_;
      return std::nullopt;
    }
    next_line_ = now + interval_;
    const uint64_t n_left_out = n_left_out_;
    n_left_out_ = 0;
    return n_left_out;
  }

 private:
  absl::Duration interval_;
  MonotonicTime next_line_ = MonotonicTime::InfinitePast();
  uint64_t n_left_out_ = 0;
};

}  // namespace coterie

#endif  // COTERIE_COMMON_LOG_ALLOWANCE_H_
