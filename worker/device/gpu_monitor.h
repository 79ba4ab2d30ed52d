#ifndef COTERIE_WORKER_DEVICE_GPU_MONITOR_H_
#define COTERIE_WORKER_DEVICE_GPU_MONITOR_H_

#include <filesystem>
#include <functional>
#include <memory>
#include <optional>

#include "absl/time/time.h"
#include "common/clock.h"
#include "common/mutex.h"
#include "common/status.h"
#include "kernels/devices/gpu_reader.h"

namespace coterie::worker {

// Reads a GPU once a second on a thread of its own, so that a driver that hangs holds up nobody: whoever asks
// gets the last reading and its age. Thread-safe.
class GpuMonitor {
 public:
  struct Options {
    std::filesystem::path driver_folder;  // see devices::InventoryOptions
    absl::Duration interval = absl::Seconds(1);
    // Called once, by the monitor's thread, when the driver says that the GPU is lost.
    std::function<void(const Status&)> on_lost;
  };
  struct Latest {
    devices::GpuReading reading;
    absl::Duration age;
  };

  GpuMonitor(const devices::Gpu& gpu, Options options);
  // Waits for the thread for a second at most; one that hangs in the driver is left behind.
  ~GpuMonitor();

  // None before the first reading.
  std::optional<Latest> latest() const;

 private:
  struct Shared;  // the thread's part, which may outlive the monitor
  static void Run(const std::shared_ptr<Shared>& shared);

  std::shared_ptr<Shared> shared_;
};

}  // namespace coterie::worker

#endif  // COTERIE_WORKER_DEVICE_GPU_MONITOR_H_
