#include "worker/device/gpu_monitor.h"

#include <thread>
#include <utility>

#include "common/log/named.h"
#include "spdlog/spdlog.h"

namespace coterie::worker {

struct GpuMonitor::Shared {
  Shared(devices::Gpu the_gpu, Options the_options)
      : gpu(std::move(the_gpu)), options(std::move(the_options)) {}

  const devices::Gpu gpu;
  const Options options;
  Mutex mutex;
  CondVar changed;
  bool stopping ABSL_GUARDED_BY(mutex) = false;
  bool ended ABSL_GUARDED_BY(mutex) = false;
  std::optional<devices::GpuReading> reading ABSL_GUARDED_BY(mutex);
  MonotonicTime read_at ABSL_GUARDED_BY(mutex);
};

GpuMonitor::GpuMonitor(const devices::Gpu& gpu, Options options)
    : shared_(std::make_shared<Shared>(gpu, std::move(options))) {
  std::thread([shared = shared_] {
    Run(shared);
    MutexLock lock(&shared->mutex);
    shared->ended = true;
    shared->changed.SignalAll();
  }).detach();
}

GpuMonitor::~GpuMonitor() {
  MutexLock lock(&shared_->mutex);
  shared_->stopping = true;
  shared_->changed.SignalAll();
  const MonotonicTime deadline = MonotonicNow() + absl::Seconds(1);
  while (!shared_->ended && shared_->changed.WaitUntil(&shared_->mutex, deadline)) {
  }
}

std::optional<GpuMonitor::Latest> GpuMonitor::latest() const {
  MutexLock lock(&shared_->mutex);
  if (!shared_->reading) return std::nullopt;
  return Latest{*shared_->reading, MonotonicNow() - shared_->read_at};
}

void GpuMonitor::Run(const std::shared_ptr<Shared>& shared) {
  const StatusOr<devices::GpuReader> reader =
      devices::GpuReader::Open(shared->options.driver_folder, shared->gpu);
  if (!reader.ok() && !absl::IsDataLoss(reader.status())) {
    spdlog::warn("no metrics of device {}: {}", Named("device", shared->gpu.device()),
                 Named("why", std::string(reader.status().message())));
    return;
  }
  while (true) {
    const StatusOr<devices::GpuReading> reading =
        reader.ok() ? reader->Read() : StatusOr<devices::GpuReading>(reader.status());
    const MonotonicTime now = MonotonicNow();
    {
      MutexLock lock(&shared->mutex);
      if (shared->stopping) return;
      if (reading.ok()) {
        shared->reading = *reading;
        shared->read_at = now;
      }
    }
    if (!reading.ok()) {
      if (shared->options.on_lost)
        shared->options.on_lost(absl::UnavailableError(reading.status().message()));
      return;
    }
    MutexLock lock(&shared->mutex);
    while (!shared->stopping && shared->changed.WaitUntil(&shared->mutex, now + shared->options.interval)) {
    }
    if (shared->stopping) return;
  }
}

}  // namespace coterie::worker
