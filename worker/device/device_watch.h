#ifndef COTERIE_WORKER_DEVICE_DEVICE_WATCH_H_
#define COTERIE_WORKER_DEVICE_DEVICE_WATCH_H_

#include <memory>
#include <optional>

#include "kernels/devices/choose_device.h"
#include "worker/device/device_loss.h"
#include "worker/device/device_metrics.h"
#include "worker/device/gpu_monitor.h"
#include "worker/device/step_watch.h"
#include "worker/engine/engine.h"
#include "worker/options.h"
#include "worker/service/worker_metrics.h"

namespace coterie::worker {

// Watches the device that a worker computes on: publishes its readings, and tells `loss` when the driver
// calls it lost or a step never ends. Does nothing on the CPU.
class DeviceWatch {
 public:
  // Borrows engine, metrics and loss; before `metrics` are first published.
  DeviceWatch(const WorkerOptions& options, const devices::ChosenDevice& device,
              const devices::InventoryOptions& inventory_options, const Engine* engine,
              WorkerMetrics* metrics, DeviceLoss* loss);

 private:
  std::unique_ptr<GpuMonitor> monitor_;
  std::optional<StepWatch> steps_;
};

}  // namespace coterie::worker

#endif  // COTERIE_WORKER_DEVICE_DEVICE_WATCH_H_
