#include "gateway/upstream/outlier_watch.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "common/clock.h"

namespace coterie::gateway {
namespace {

constexpr uint32_t kFailuresToEject = 2;
constexpr uint32_t kMaxDoublings = 16;  // 2^16 times the shortest time is beyond any longest one

}  // namespace

void OutlierWatch::Forget(MonotonicTime now) {
  if (last_failure_ == MonotonicTime::InfinitePast() || options_.memory <= absl::ZeroDuration()) return;
  const int64_t n = std::max<int64_t>(0, (now - last_failure_) / options_.memory);
  n_failures_ -= static_cast<uint32_t>(std::min<int64_t>(n, n_failures_));
  n_doublings_ -= static_cast<uint32_t>(std::min<int64_t>(n, n_doublings_));
}

bool OutlierWatch::Fail(MonotonicTime now) {
  Forget(now);
  last_failure_ = now;
  ++n_failures_;
  if (now < until_) {
    until_ = now + length_;
    return false;
  }
  if (n_failures_ < kFailuresToEject || options_.first <= absl::ZeroDuration()) return false;
  length_ = std::min(options_.longest, options_.first * (1 << n_doublings_));
  n_doublings_ = std::min(n_doublings_ + 1, kMaxDoublings);
  until_ = now + length_;
  ++n_ejections_;
  return true;
}

absl::Duration OutlierWatch::ejected_for(MonotonicTime now) const {
  return std::max(absl::ZeroDuration(), until_ - now);
}

std::string OutlierWatch::InWords(absl::Duration left) const {
  return absl::StrCat("ejected for ", absl::FormatDuration(absl::Ceil(left, absl::Milliseconds(100))),
                      " after it failed ", n_failures_,
                      " times: meanwhile it gets answers only where no other worker can take them");
}

}  // namespace coterie::gateway
