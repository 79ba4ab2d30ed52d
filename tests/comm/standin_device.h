#ifndef COTERIE_TESTS_COMM_STANDIN_DEVICE_H_
#define COTERIE_TESTS_COMM_STANDIN_DEVICE_H_

#include <functional>
#include <string>

#include "common/mutex.h"
#include "kernels/comm/nccl_abi.h"

// The device under the stand-in for NCCL: what exists on it, and what was done wrong. There are two: one of
// its own (standin_device.cc), and the emulated GPU (emulated_device.cc).
namespace coterie::comm_testing {

class StandInDevice {
 public:
  static StandInDevice& Get();

  void Report(const std::string& misuse);
  std::string TakeReports();

  bool CheckStream(nccl::Stream stream);  // false: it is not there, which is misuse
  // Runs `kernel`, which may wait for others, when the stream has come to it. Nothing where there is no such
  // stream.
  void Push(nccl::Stream stream, std::function<void()> kernel);
  // Whether all of it is memory of the device; misuse where not.
  bool CheckMemory(const void* data, size_t n_bytes, const std::string& what);

  // For the table of functions.
  static DriverCalls Driver();

 private:
  Mutex mutex_;
  std::string reports_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace coterie::comm_testing

#endif  // COTERIE_TESTS_COMM_STANDIN_DEVICE_H_
