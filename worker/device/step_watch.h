#ifndef COTERIE_WORKER_DEVICE_STEP_WATCH_H_
#define COTERIE_WORKER_DEVICE_STEP_WATCH_H_

#include <cstdint>
#include <functional>
#include <thread>

#include "absl/time/time.h"
#include "common/mutex.h"
#include "common/status.h"
#include "worker/engine/engine.h"

namespace coterie::worker {

// Whether a step hangs, by looks at the engine's counters.
class StepLooks {
 public:
  explicit StepLooks(int n_looks) : n_looks_(n_looks) {}
  // True when so many looks in a row saw the same step under way.
  bool SeesHang(uint64_t begun, uint64_t ended);

 private:
  const int n_looks_;
  uint64_t seen_ = 0;
  int n_same_ = 0;
};

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
