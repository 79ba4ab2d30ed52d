#ifndef COTERIE_TESTS_GPU_EMULATION_MACHINE_H_
#define COTERIE_TESTS_GPU_EMULATION_MACHINE_H_

#include <cuda_runtime.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <random>
#include <vector>

#include "arena.h"
#include "control.h"
#include "fiber.h"

namespace coterie::emulation {

struct Event {
  int device = 0;
  uint64_t recorded = 0;   // how often cudaEventRecord was called
  uint64_t completed = 0;  // up to which of them the stream has come
  double seconds = 0;      // when, by a monotonic clock
  char order = 0;          // what the thread sanitizer orders who waits for it by
};

// kHost: the emulation's own affair, no work of the device. kForeign: another library's (EnqueueForeign).
enum class TaskKind { kKernel, kCopy, kHost, kForeign };

struct Task {
  TaskKind kind = TaskKind::kHost;
  std::function<void()> run;
};

// One entry of a stream: work, a point to reach, or something to wait for.
struct Operation {
  TaskKind kind = TaskKind::kHost;
  std::unique_ptr<Work> work;
  Event* record = nullptr;
  Event* wait = nullptr;
  uint64_t count = 0;                                  // of the event's records
  std::shared_ptr<const std::atomic<bool>> work_over;  // foreign work that goes on elsewhere
};

struct Graph {
  bool relaxed = false;
  bool spoiled = false;  // a launch into it has failed
  std::vector<Task> tasks;
};
struct GraphExec {
  std::vector<Task> tasks;
};

// Work is done late: when somebody waits or asks, in the order of the stream, other streams' work mixed in at
// random.
struct Stream {
  int device = 0;
  std::deque<Operation> operations;
  Graph* capture = nullptr;
  Timeline timeline;
};

// All that there is: devices share one address space with the host here. Every public function of the runtime
// holds `mutex`, so that work runs on one host thread at a time.
struct Machine {
  std::recursive_mutex mutex;
  Arena arena;
  std::vector<Stream*> streams;
  Stream null_stream;
  std::mt19937_64 random{1};
  Counts counts;
  std::map<int, size_t> bytes_of_device;
  int fail_allocation_after = -1;
  int n_allocation_failures = 0;  // to come; negative: for ever
  FailedAllocation failed_allocation;
  int fail_launch_after = -1;
  int lose_device_after = -1;
  int fail_product_after = -1;
  bool lost = false;

  // Whether a call that takes memory is to fail; counts it.
  bool FailsAllocation(const char* call, size_t bytes = 0);
  // Whether the device has been taken away from outside.
  void LookForLoss(int device);
  // Adds work to a stream, or to the graph that it captures.
  void Enqueue(cudaStream_t stream, Task task);
  // Does one piece of a stream's work; false where there is none, or it waits for another stream.
  bool Step(Stream* stream);
  // Does one piece of any stream's work.
  bool StepAny();
  bool Finish(Stream* stream);
  void FinishAll();  // as far as it goes; does not wait for foreign work
  // False where no stream waits for foreign work. Otherwise gives it a moment, in which others may enter: the
  // caller holds the lock once.
  bool AwaitForeign();
  // The calling host thread has waited for all streams: it sees what they did.
  void Join();
};
Machine& TheMachine();

// What cudaGetLastError of this thread finds next.
void SetLastError(cudaError_t error);

// The device of the calling host thread (cudaSetDevice).
int& CurrentDevice();

}  // namespace coterie::emulation

#endif  // COTERIE_TESTS_GPU_EMULATION_MACHINE_H_
