#ifndef COTERIE_TESTS_COMM_STANDIN_DEVICE_H_
#define COTERIE_TESTS_COMM_STANDIN_DEVICE_H_

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <thread>

#include "common/mutex.h"
#include "kernels/comm/nccl_abi.h"

// The device under the stand-in for NCCL: what exists on it, and what was done wrong.
namespace coterie::comm_testing {

// Kernels in order, on a thread of its own.
class StandInStream {
 public:
  StandInStream() : thread_([this] { Run(); }) {}
  ~StandInStream();
  void Push(std::function<void()> kernel);

 private:
  void Run();

  Mutex mutex_;
  CondVar changed_;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::deque<std::function<void()>> kernels_ ABSL_GUARDED_BY(mutex_);
  std::thread thread_;
};

class StandInDevice {
 public:
  static StandInDevice& Get();

  void Report(const std::string& misuse);
  std::string TakeReports();

  nccl::Stream AddStream();
  void RemoveStream(nccl::Stream stream);
  std::shared_ptr<StandInStream> FindStream(nccl::Stream stream);  // none: misuse

  void AddMemory(const std::byte* begin, size_t n_bytes);
  void RemoveMemory(const std::byte* begin);
  // Whether all of it is memory of the device; misuse where not.
  bool CheckMemory(const void* data, size_t n_bytes, const std::string& what);

  // CUDA's, for the table.
  static int EventCreate(nccl::Event* event, unsigned int flags);
  static int EventRecord(nccl::Event event, nccl::Stream stream);
  static int EventQuery(nccl::Event event);
  static int EventDestroy(nccl::Event event);

 private:
  struct EventState {
    int n_recorded = 0, n_reached = 0;
  };
  Mutex mutex_;
  std::string reports_ ABSL_GUARDED_BY(mutex_);
  std::map<nccl::Stream, std::shared_ptr<StandInStream>> streams_ ABSL_GUARDED_BY(mutex_);
  std::map<const std::byte*, size_t> memory_ ABSL_GUARDED_BY(mutex_);
  std::map<nccl::Event, EventState> events_ ABSL_GUARDED_BY(mutex_);
  uintptr_t last_event_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace coterie::comm_testing

#endif  // COTERIE_TESTS_COMM_STANDIN_DEVICE_H_
