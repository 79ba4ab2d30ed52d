#include "gateway/access/queue_forecast.h"

#include <algorithm>

namespace coterie::gateway {
namespace {

constexpr int kLeastSeen = 4;
constexpr double kKeep = 0.95;  // of what was seen before, with each beginning: about the last twenty count
constexpr double kMargin = 1.25;
// A time without workers says little about the next hour.
constexpr absl::Duration kLongestStep = absl::Seconds(5);

}  // namespace

void QueueForecast::Began(MonotonicTime since, double cost, MonotonicTime now) {
  // While others began it waited for them; when it came later it waited for nobody.
  const absl::Duration step = std::min(now - std::max(since, last_), kLongestStep);
  last_ = now;
  seconds_ = kKeep * seconds_ + std::max(0.0, absl::ToDoubleSeconds(step));
  units_ = kKeep * units_ + cost;
  ++n_seen_;
}

void QueueForecast::Ended(absl::Duration run) {
  run_seconds_ = 0.9 * run_seconds_ + 0.1 * absl::ToDoubleSeconds(run);
}

absl::Duration QueueForecast::Wait(double ahead) const {
  if (n_seen_ < kLeastSeen || units_ <= 0) return absl::ZeroDuration();
  return absl::Seconds(ahead * seconds_ / units_);
}

bool QueueForecast::CanEndWithin(absl::Duration left, double ahead) const {
  if (ahead < kLeastAhead || left == absl::InfiniteDuration()) return true;
  return kMargin * Wait(ahead) + std::min(run(), left / 2) <= left;
}

}  // namespace coterie::gateway
