#ifndef COTERIE_WORKER_DEVICE_DEVICE_METRICS_H_
#define COTERIE_WORKER_DEVICE_DEVICE_METRICS_H_

#include <string>

#include "common/metrics.h"
#include "kernels/devices/inventory.h"
#include "worker/device/gpu_monitor.h"

namespace coterie::worker {

// A GPU's readings as coterie_worker_device_*; what a GPU does not measure has no metric. One thread.
class DeviceMetrics {
 public:
  // Borrows registry and monitor.
  DeviceMetrics(MetricsRegistry* registry, const devices::Gpu& gpu, const GpuMonitor* monitor);
  // Brings everything up to date; never waits for the driver.
  void Publish();

 private:
  void Set(const char* name, const char* help, double value, const MetricLabels& more = {});
  void PublishThrottling(const devices::Throttling& throttling);

  MetricsRegistry* const registry_;
  const GpuMonitor* const monitor_;
  const std::string device_;
};

}  // namespace coterie::worker

#endif  // COTERIE_WORKER_DEVICE_DEVICE_METRICS_H_
