#ifndef COTERIE_GATEWAY_RUNTIME_TIMER_QUEUE_H_
#define COTERIE_GATEWAY_RUNTIME_TIMER_QUEUE_H_

#include <cstdint>
#include <functional>
#include <map>
#include <thread>
#include <utility>

#include "absl/time/time.h"
#include "common/clock.h"
#include "common/mutex.h"

namespace coterie::gateway {

// Runs callbacks at a time, all on one thread of its own; a callback must therefore be short and must not
// wait. Thread-safe. The destructor runs nothing more and waits for the callback in progress.
class TimerQueue {
 public:
  using Id = uint64_t;  // 0: none, given by a queue that is being destroyed

  TimerQueue();
  ~TimerQueue();
  TimerQueue(const TimerQueue&) = delete;
  TimerQueue& operator=(const TimerQueue&) = delete;

  Id At(MonotonicTime when, std::function<void()> callback);
  Id After(absl::Duration delay, std::function<void()> callback) {
    return At(MonotonicNow() + delay, std::move(callback));
  }
  // The callback will not start any more; it may be running at this moment. Unknown ids are ignored.
  void Cancel(Id id);

 private:
  void Run();

  Mutex mutex_;
  CondVar changed_;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  Id next_id_ ABSL_GUARDED_BY(mutex_) = 1;
  std::map<std::pair<MonotonicTime, Id>, std::function<void()>> due_ ABSL_GUARDED_BY(mutex_);
  std::map<Id, MonotonicTime> times_ ABSL_GUARDED_BY(mutex_);
  std::thread thread_;
};

}  // namespace coterie::gateway

#endif  // COTERIE_GATEWAY_RUNTIME_TIMER_QUEUE_H_
