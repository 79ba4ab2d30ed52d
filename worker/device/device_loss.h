#ifndef COTERIE_WORKER_DEVICE_DEVICE_LOSS_H_
#define COTERIE_WORKER_DEVICE_DEVICE_LOSS_H_

#include <memory>
#include <string>

#include "common/mutex.h"
#include "common/shutdown_signal.h"
#include "common/status.h"
#include "worker/worker_server.h"

namespace coterie::worker {

// Where the word arrives that the device is lost, from whoever notices first: a step that failed, the
// driver's own report, or a step that never ends. Wakes the main thread. Thread-safe.
class DeviceLoss {
 public:
  explicit DeviceLoss(ShutdownSignals* signals) : signals_(*signals) {}

  void Tell(const Status& why);
  // What was told first; ok while nobody has told anything.
  Status why() const;

 private:
  ShutdownSignals& signals_;
  mutable Mutex mutex_;
  Status why_ ABSL_GUARDED_BY(mutex_);
};

// Hands the answers over and ends the process with kDeviceLostExitCode, within ten seconds whatever hangs: no
// destructor of engine or model runs, since it would ask the lost device to free its memory.
[[noreturn]] void LeaveWithoutDevice(const std::string& device, const Status& why,
                                     std::unique_ptr<WorkerServer> server);

}  // namespace coterie::worker

#endif  // COTERIE_WORKER_DEVICE_DEVICE_LOSS_H_
