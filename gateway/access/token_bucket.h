#ifndef COTERIE_GATEWAY_ACCESS_TOKEN_BUCKET_H_
#define COTERIE_GATEWAY_ACCESS_TOKEN_BUCKET_H_

#include <algorithm>
#include <cstdint>

#include "common/clock.h"

namespace coterie::gateway {

// A quota by the minute, as a bucket that is full at first, holds a minute's worth and fills evenly. What a
// request will cost is known only when it has ended, so a bucket may be overdrawn: whoever comes is let in
// while something is left, and waits until the debt is paid. Over any time a client gets its rate, one full
// bucket, and what its requests under way overdraw. Not thread-safe.
class TokenBucket {
 public:
  // Of 0 a minute: no limit.
  TokenBucket(uint64_t per_minute, MonotonicTime now)
      : per_minute_(static_cast<double>(per_minute)), level_(per_minute_), at_(now) {}

  // A new rate keeps the share of the bucket that is left.
  void SetRate(uint64_t per_minute, MonotonicTime now) {
    const auto rate = static_cast<double>(per_minute);
    if (rate == per_minute_) return;
    Fill(now);
    level_ = per_minute_ > 0 ? level_ / per_minute_ * rate : rate;
    per_minute_ = rate;
  }
  // How long until `n` can be taken: zero when they can. More than the bucket holds waits until it is full.
  absl::Duration WaitFor(double n, MonotonicTime now) {
    if (per_minute_ == 0) return absl::ZeroDuration();
    Fill(now);
    const double missing = std::min(n, per_minute_) - level_;
    return missing <= kDust ? absl::ZeroDuration() : absl::Minutes(missing / per_minute_);
  }
  void Take(double n, MonotonicTime now) {
    if (per_minute_ == 0) return;
    Fill(now);
    level_ -= n;
  }

 private:
  // Left of sums of parts that should be nothing.
  static constexpr double kDust = 1e-6;

  void Fill(MonotonicTime now) {
    if (now <= at_) return;
    level_ = std::min(per_minute_, level_ + per_minute_ * absl::FDivDuration(now - at_, absl::Minutes(1)));
    at_ = now;
  }

  double per_minute_;
  double level_;
  MonotonicTime at_;
};

}  // namespace coterie::gateway

#endif  // COTERIE_GATEWAY_ACCESS_TOKEN_BUCKET_H_
