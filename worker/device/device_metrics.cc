#include "worker/device/device_metrics.h"

#include <utility>

namespace coterie::worker {
namespace {

constexpr char kEcc[] = "coterie_worker_device_ecc_errors";
constexpr char kEccHelp[] = "Errors of the device's memory since its driver was loaded, by kind.";
constexpr char kClock[] = "coterie_worker_device_clock_hertz";
constexpr char kClockHelp[] = "Clocks of the device's processors (sm) and memory.";

}  // namespace

DeviceMetrics::DeviceMetrics(MetricsRegistry* registry, const devices::Gpu& gpu, const GpuMonitor* monitor)
    : registry_(registry), monitor_(monitor), device_(gpu.device()) {
  Set("coterie_worker_device_info", "The device; the value is 1.", 1,
      {{"name", gpu.name},
       {"uuid", gpu.uuid},
       {"pci_bus_id", gpu.pci_bus_id},
       {"compute_capability", absl::StrCat(gpu.major, ".", gpu.minor)}});
}

void DeviceMetrics::Publish() {
  const std::optional<GpuMonitor::Latest> latest = monitor_->latest();
  if (!latest) return;
  const devices::GpuReading& r = latest->reading;
  Set("coterie_worker_device_reading_age_seconds",
      "Since the device was read; it grows where the driver does not answer.",
      absl::ToDoubleSeconds(latest->age));
  const auto set = [this](const char* name, const char* help, const auto& value,
                          const MetricLabels& more = {}) {
    if (value) Set(name, help, static_cast<double>(*value), more);
  };
  set("coterie_worker_device_memory_used_bytes", "Device memory in use, by all processes.",
      r.memory_used_bytes);
  set("coterie_worker_device_memory_total_bytes", "Device memory.", r.memory_total_bytes);
  set("coterie_worker_device_busy_ratio", "Of the time, in which the device computed.", r.busy_ratio);
  set("coterie_worker_device_memory_busy_ratio",
      "Of the time, in which the device's memory was read or written.", r.memory_busy_ratio);
  set("coterie_worker_device_temperature_celsius", "The device's temperature.", r.temperature_celsius);
  set("coterie_worker_device_power_watts", "What the device draws.", r.power_watts);
  set("coterie_worker_device_power_limit_watts", "What the device may draw.", r.power_limit_watts);
  set(kEcc, kEccHelp, r.ecc_corrected, {{"kind", "corrected"}});
  set(kEcc, kEccHelp, r.ecc_uncorrected, {{"kind", "uncorrected"}});
  set(kClock, kClockHelp, r.sm_clock_hertz, {{"clock", "sm"}});
  set(kClock, kClockHelp, r.memory_clock_hertz, {{"clock", "memory"}});
  if (r.throttling) PublishThrottling(*r.throttling);
}

void DeviceMetrics::PublishThrottling(const devices::Throttling& throttling) {
  for (const auto& [reason, holds] :
       {std::pair("power", throttling.power), std::pair("thermal", throttling.thermal),
        std::pair("hardware", throttling.hardware), std::pair("other", throttling.other)}) {
    Set("coterie_worker_device_throttled", "1 where this holds the device's clocks down, by reason.",
        holds ? 1 : 0, {{"reason", reason}});
  }
}

void DeviceMetrics::Set(const char* name, const char* help, double value, const MetricLabels& more) {
  MetricLabels labels = more;
  labels["device"] = device_;
  registry_->Gauge(name, help, labels).Set(value);
}

}  // namespace coterie::worker
