#include "gateway/upstream/heartbeat_watch.h"

#include <algorithm>
#include <utility>

namespace coterie::gateway {

absl::Duration HeartbeatWatch::Patience() const {
  return std::max(options_.silence_timeout / 2, 2 * options_.interval);
}

void HeartbeatWatch::Begin(MonotonicTime now) {
  last_heard_ = last_tick_ = now;
  suspect_told_ = verdict_put_off_ = false;
}

bool HeartbeatWatch::Hear(MonotonicTime now) {
  const bool beats_lost = silence(now) > std::max(options_.silence_timeout / 3, 2 * options_.interval);
  const bool we_stalled = WeStalled(now);
  last_heard_ = now;
  suspect_told_ = verdict_put_off_ = false;
  return beats_lost && !we_stalled;
}

HeartbeatWatch::Verdict HeartbeatWatch::Tick(MonotonicTime now, MonotonicTime unwritten_since) {
  const bool late = TickIsLate(now);
  const bool unwritten = now - unwritten_since > 2 * options_.interval;
  if (late || unwritten) late_tick_ = now;
  last_tick_ = now;
  if (silence(now) <= std::min(Patience(), options_.silence_timeout)) return Verdict::kHeard;
  if (unwritten && silence(now) <= 2 * options_.silence_timeout) return Verdict::kHeard;
  if (late && !std::exchange(verdict_put_off_, true)) return Verdict::kHeard;
  if (silence(now) > options_.silence_timeout) return Verdict::kLost;
  return std::exchange(suspect_told_, true) ? Verdict::kHeard : Verdict::kSuspect;
}

}  // namespace coterie::gateway
