#ifndef COTERIE_COMMON_CLOCK_H_
#define COTERIE_COMMON_CLOCK_H_

#include <time.h>

#include <algorithm>
#include <chrono>
#include <compare>
#include <cstdint>

#include "absl/time/time.h"

namespace coterie {

// A point on the clock that nobody can set (CLOCK_MONOTONIC), and the only kind that a duration may be taken
// from or added to here: time-outs, deadlines, ages, heartbeats, measured seconds. The wall clock
// (absl::Time) jumps when an operator or a time daemon sets it; it is for what people and other machines
// read, such as a time stamp in the catalogue. The two do not mix by type, and points of two processes do not
// compare: the wire carries durations left.
class MonotonicTime {
 public:
  // Before every other point, so that "not seen yet" is longer ago than any limit.
  constexpr MonotonicTime() : since_epoch_(-absl::InfiniteDuration()) {}
  static constexpr MonotonicTime InfinitePast() { return MonotonicTime(); }
  static constexpr MonotonicTime InfiniteFuture() { return MonotonicTime(absl::InfiniteDuration()); }
  // The clock's zero, which is the machine's start on Linux: what a made-up clock in a test counts from.
  static constexpr MonotonicTime Epoch() { return MonotonicTime(absl::ZeroDuration()); }
  static MonotonicTime Now() {
    timespec now{};
    clock_gettime(CLOCK_MONOTONIC, &now);
    return MonotonicTime(absl::DurationFromTimespec(now));
  }

  absl::Duration since_epoch() const { return since_epoch_; }

  // Arithmetic saturates at both infinities.
  MonotonicTime& operator+=(absl::Duration d) {
    since_epoch_ += d;
    return *this;
  }
  MonotonicTime& operator-=(absl::Duration d) {
    since_epoch_ -= d;
    return *this;
  }
  friend MonotonicTime operator+(MonotonicTime t, absl::Duration d) { return t += d; }
  friend MonotonicTime operator+(absl::Duration d, MonotonicTime t) { return t += d; }
  friend MonotonicTime operator-(MonotonicTime t, absl::Duration d) { return t -= d; }
  friend absl::Duration operator-(MonotonicTime a, MonotonicTime b) {
    return a.since_epoch_ - b.since_epoch_;
  }
  friend bool operator==(MonotonicTime a, MonotonicTime b) { return a.since_epoch_ == b.since_epoch_; }
  friend std::strong_ordering operator<=>(MonotonicTime a, MonotonicTime b) {
    if (a.since_epoch_ < b.since_epoch_) return std::strong_ordering::less;
    return a.since_epoch_ == b.since_epoch_ ? std::strong_ordering::equal : std::strong_ordering::greater;
  }

 private:
  explicit constexpr MonotonicTime(absl::Duration since_epoch) : since_epoch_(since_epoch) {}
  absl::Duration since_epoch_;
};

inline MonotonicTime MonotonicNow() { return MonotonicTime::Now(); }

// For the standard library's waits, whose steady clock is the same clock. At most a century from its zero,
// which it can hold.
inline std::chrono::steady_clock::time_point ToSteadyClock(MonotonicTime time) {
  const absl::Duration limit = absl::Hours(24 * 365 * 100);
  return std::chrono::steady_clock::time_point(
      absl::ToChronoNanoseconds(std::clamp(time.since_epoch(), absl::ZeroDuration(), limit)));
}

}  // namespace coterie

#endif  // COTERIE_COMMON_CLOCK_H_
