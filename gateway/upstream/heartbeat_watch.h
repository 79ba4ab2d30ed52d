#ifndef COTERIE_GATEWAY_UPSTREAM_HEARTBEAT_WATCH_H_
#define COTERIE_GATEWAY_UPSTREAM_HEARTBEAT_WATCH_H_

#include "absl/time/time.h"
#include "common/clock.h"

namespace coterie::gateway {

// Whether one worker's heartbeats come; every message of it counts as one. Where they are lost, the worker
// first gets no new work (alive_until), then its answers are got ready to fail over (kSuspect), and in the
// end they do (kLost).
//
// A gateway that was itself stopped for a while (SIGSTOP, swapping) has heard nothing either, and must not
// blame its workers for it. It notices by its own ticks, which then come late; and, where only the threads
// that carry its connections stand still (a client keeps them busy), by its own heartbeats, which then are
// not written. Not thread-safe.
class HeartbeatWatch {
 public:
  struct Options {
    absl::Duration interval;         // between two heartbeats, and between two ticks
    absl::Duration silence_timeout;  // a worker that said nothing for longer is lost
  };
  enum class Verdict {
    kHeard,
    kSuspect,  // once for each silence, when it has lasted for half of the timeout (two heartbeats at least)
    kLost,
  };

  explicit HeartbeatWatch(const Options& options) : options_(options) {}

  // A connection is tried: the attempt, too, may take as long as a silence.
  void Begin(MonotonicTime now);
  // A message came. True when it ends a silence so long that the worker did not keep its beat.
  bool Hear(MonotonicTime now);
  // To be called every `interval`. Where this call itself comes late, what the worker said meanwhile may wait
  // to be read: then the verdict is left to the next tick, once for each silence.
  // `unwritten_since`: when the oldest of our messages to it was given to the connection and is not written
  // yet. Where that is longer than two intervals ago, the verdict waits for twice the time.
  Verdict Tick(MonotonicTime now, MonotonicTime unwritten_since = MonotonicTime::InfiniteFuture());

  // Up to when the worker takes new work if nothing more is heard: while the verdict is out, it goes
  // elsewhere.
  MonotonicTime alive_until() const { return last_heard_ + Patience(); }
  MonotonicTime last_heard() const { return last_heard_; }
  absl::Duration silence(MonotonicTime now) const { return now - last_heard_; }

 private:
  absl::Duration Patience() const;
  bool TickIsLate(MonotonicTime now) const { return now - last_tick_ > 2 * options_.interval; }
  // Since the worker was last heard.
  bool WeStalled(MonotonicTime now) const { return late_tick_ >= last_heard_ || TickIsLate(now); }

  Options options_;
  MonotonicTime last_heard_ = MonotonicTime::InfinitePast();
  MonotonicTime last_tick_ = MonotonicTime::InfinitePast();
  // The last one that came late, or found that our own messages were not written.
  MonotonicTime late_tick_ = MonotonicTime::InfinitePast();
  // Of the present silence.
  bool suspect_told_ = false;
  bool verdict_put_off_ = false;
};

}  // namespace coterie::gateway

#endif  // COTERIE_GATEWAY_UPSTREAM_HEARTBEAT_WATCH_H_
