#include "net/clock_watch.h"

#include <algorithm>

#include "absl/time/clock.h"
#include "common/clock.h"
#include "common/log/named.h"
#include "spdlog/spdlog.h"

// Of gRPC 1.51's libgrpc: not in its headers, and gone in later versions, which do without. Weak: null where
// missing.
[[gnu::weak]] void grpc_kick_poller();

namespace coterie::net {
namespace {

// Steered clocks run at most some 0.05 % slow; a look comes every second.
constexpr absl::Duration kNotice = absl::Milliseconds(100);

absl::Duration Offset() {
  // The smallest of three, since anything may come between the two looks.
  absl::Duration least = absl::InfiniteDuration();
  for (int i = 0; i < 3; ++i) {
    const MonotonicTime before = MonotonicNow();
    least = std::min(least, (absl::Now() - absl::UnixEpoch()) - before.since_epoch());
  }
  return least;
}

}  // namespace

ClockWatch::ClockWatch() : offset_(Offset()) {}

bool ClockWatch::Look() {
  const absl::Duration offset = Offset();
  const absl::Duration moved = offset - offset_;
  offset_ = offset;
  if (moved > -kNotice) return false;
  spdlog::warn("the wall clock was set back by {}; time-outs go by another clock and hold",
               Named("by", absl::FormatDuration(
                               absl::Trunc(absl::Milliseconds(50) - moved, absl::Milliseconds(100)))));
  if (grpc_kick_poller != nullptr) grpc_kick_poller();
  return true;
}

}  // namespace coterie::net
