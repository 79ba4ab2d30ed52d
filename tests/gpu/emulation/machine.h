#ifndef COTERIE_TESTS_GPU_EMULATION_MACHINE_H_
#define COTERIE_TESTS_GPU_EMULATION_MACHINE_H_

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <mutex>
#include <random>
#include <vector>

#include "control.h"

namespace coterie::emulation {

struct Event {
  uint64_t recorded = 0;   // how often cudaEventRecord was called
  uint64_t completed = 0;  // up to which of them the stream has come
  double seconds = 0;      // when, by a monotonic clock
};

// One entry of a stream: work, or a point to reach, or one to wait for.
struct Operation {
  std::function<void()> run;
  Event* record = nullptr;
  Event* wait = nullptr;
  uint64_t count = 0;  // of the event's records
};

struct Graph {
  std::vector<std::function<void()>> operations;
};
struct GraphExec {
  std::vector<std::function<void()>> operations;
};

// Work is done late: when somebody waits or asks, in the order of the stream, other streams' work mixed in at
// random.
struct Stream {
  std::deque<Operation> operations;
  Graph* capture = nullptr;
};

struct Allocation {
  size_t bytes = 0;
  bool pinned = false;  // host memory
  int device = 0;
};

// All that there is: devices share one address space with the host here. Every public function of the runtime
// holds `mutex`, so that work runs on one host thread at a time.
struct Machine {
  std::recursive_mutex mutex;
  std::map<uintptr_t, Allocation> allocations;          // by their first address
  std::deque<std::pair<unsigned char*, size_t>> freed;  // poisoned, to see whether somebody writes there
  size_t freed_bytes = 0;
  std::vector<Stream*> streams;
  Stream null_stream;
  std::mt19937_64 random{1};
  Counts counts;
  int fail_allocation_after = -1;
  int lose_device_after = -1;
  bool lost = false;

  // The allocation that holds [pointer, pointer + bytes); null: none does.
  const Allocation* Find(const void* pointer, size_t bytes) const;
  // Adds work to a stream, or to the graph that it captures.
  void Enqueue(cudaStream_t stream, std::function<void()> run);
  // Does one piece of a stream's work; false where there is none, or it waits for another stream.
  bool Step(Stream* stream);
  // Does one piece of any stream's work.
  bool StepAny();
  bool Finish(Stream* stream);
};
Machine& TheMachine();

}  // namespace coterie::emulation

#endif  // COTERIE_TESTS_GPU_EMULATION_MACHINE_H_
