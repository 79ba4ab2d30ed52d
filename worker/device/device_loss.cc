#include "worker/device/device_loss.h"

#include <unistd.h>

#include <cstdio>
#include <thread>

#include "absl/time/clock.h"
#include "common/exit_code.h"
#include "common/log/named.h"
#include "common/utf8.h"
#include "spdlog/spdlog.h"

namespace coterie::worker {
namespace {

// Gateways that read get their last message within milliseconds.
constexpr absl::Duration kHandOverPatience = absl::Seconds(2);
constexpr absl::Duration kLeaveLimit = absl::Seconds(10);

}  // namespace

void DeviceLoss::Tell(const Status& why) {
  MutexLock lock(&mutex_);
  if (!why_.ok()) return;
  why_ = why;
  signals_.Wake();
}

Status DeviceLoss::why() const {
  MutexLock lock(&mutex_);
  return why_;
}

void LeaveWithoutDevice(const std::string& device, const Status& why, std::unique_ptr<WorkerServer> server) {
  std::thread([] {
    absl::SleepFor(kLeaveLimit);
    _exit(kDeviceLostExitCode);
  }).detach();
  spdlog::error("device {} is lost: {}; handing over what runs, then ending with exit code {}",
                Named("device", device), Named("why", Printable(ToStd(why.message()))),
                Named("exit_code", kDeviceLostExitCode));
  const int n_handed_over = server->HandOver(why, kHandOverPatience);
  spdlog::info("{} sequences handed over", Named("sequences", n_handed_over));
  server.reset();  // the last messages go out
  spdlog::default_logger()->flush();
  std::fflush(nullptr);
  _exit(kDeviceLostExitCode);
}

}  // namespace coterie::worker
