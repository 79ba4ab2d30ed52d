#ifndef COTERIE_WORKER_DEVICE_STEP_WATCH_H_
#define COTERIE_WORKER_DEVICE_STEP_WATCH_H_

#include <functional>
#include <thread>

#include "absl/time/time.h"
#include "common/mutex.h"
#include "common/status.h"
#include "worker/engine/engine.h"

namespace coterie::worker {

// Notices a step that never ends: the device hangs, and the engine's thread with it. Looks at the engine's
// counters from a thread of its own, and counts its own looks instead of reading a clock: a process that was
// stopped for a minute has not seen a step hang for a minute.
class StepWatch {
 public:
  struct Options {
    absl::Duration timeout;  // above zero
    // Called once, by the watch's thread.
    std::function<void(const Status&)> on_hang;
  };
  // Borrows the figures.
  StepWatch(const EngineStats* stats, Options options);
  ~StepWatch();

 private:
  void Run();

  const EngineStats& stats_;
  const Options options_;
  Mutex mutex_;
  CondVar changed_;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

}  // namespace coterie::worker

#endif  // COTERIE_WORKER_DEVICE_STEP_WATCH_H_
