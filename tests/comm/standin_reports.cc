#include <utility>

#include "absl/strings/str_cat.h"
#include "tests/comm/nccl_standin.h"
#include "tests/comm/standin_device.h"

namespace coterie::comm_testing {

StandInDevice& StandInDevice::Get() {
  static StandInDevice* const device = new StandInDevice;
  return *device;
}

void StandInDevice::Report(const std::string& misuse) {
  MutexLock lock(&mutex_);
  absl::StrAppend(&reports_, misuse, "\n");
}

std::string StandInDevice::TakeReports() {
  MutexLock lock(&mutex_);
  return std::exchange(reports_, "");
}

void RunOnStream(nccl::Stream stream, std::function<void()> kernel) {
  if (StandInDevice::Get().CheckStream(stream)) StandInDevice::Get().Push(stream, std::move(kernel));
}

}  // namespace coterie::comm_testing
