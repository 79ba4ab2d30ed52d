#include "worker/device/device_watch.h"

namespace coterie::worker {

DeviceWatch::DeviceWatch(const WorkerOptions& options, const devices::ChosenDevice& device,
                         const devices::InventoryOptions& inventory_options, const Engine* engine,
                         WorkerMetrics* metrics, DeviceLoss* loss) {
  // An emulated GPU is as slow as it is, and no driver knows it.
  if (!device.gpu || device.gpu->pci_bus_id.empty()) return;
  const auto on_lost = [loss](const Status& why) { loss->Tell(why); };
  monitor_ = std::make_unique<GpuMonitor>(
      *device.gpu, GpuMonitor::Options{.driver_folder = inventory_options.driver_folder, .on_lost = on_lost});
  const auto device_metrics =
      std::make_shared<DeviceMetrics>(metrics->registry(), *device.gpu, monitor_.get());
  metrics->AlsoPublish([device_metrics] { device_metrics->Publish(); });
  if (options.device_timeout > absl::ZeroDuration()) {
    steps_.emplace(&engine->stats(), StepWatch::Options{options.device_timeout, on_lost});
  }
}

}  // namespace coterie::worker
