#ifndef COTERIE_GATEWAY_UPSTREAM_STREAM_REAPER_H_
#define COTERIE_GATEWAY_UPSTREAM_STREAM_REAPER_H_

#include <memory>
#include <utility>

#include "common/clock.h"
#include "common/mutex.h"
#include "gateway/runtime/timer_queue.h"

namespace coterie::gateway {

// Destroys ended streams on the timers' thread. A stream owns its channel, and gRPC joins its callback
// threads when the last channel goes: on one of these threads it would wait for itself. Thread-safe.
class StreamReaper {
 public:
  explicit StreamReaper(TimerQueue* timers) : timers_(timers) {}

  void Born() {
    MutexLock lock(&mutex_);
    ++n_alive_;
  }
  void Bury(std::shared_ptr<void> stream) {
    timers_->At(MonotonicTime::InfinitePast(), [this, stream = std::move(stream)]() mutable {
      stream.reset();
      MutexLock lock(&mutex_);
      --n_alive_;
      none_.SignalAll();
    });
  }
  // False when `timeout` passed and some are left.
  bool WaitForAll(absl::Duration timeout) {
    const MonotonicTime until = MonotonicNow() + timeout;
    MutexLock lock(&mutex_);
    while (n_alive_ > 0 && MonotonicNow() < until) none_.WaitUntil(&mutex_, until);
    return n_alive_ == 0;
  }

 private:
  TimerQueue* const timers_;
  Mutex mutex_;
  CondVar none_;
  int n_alive_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace coterie::gateway

#endif  // COTERIE_GATEWAY_UPSTREAM_STREAM_REAPER_H_
