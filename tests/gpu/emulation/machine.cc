#include "machine.h"

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <string>
#include <thread>

#include "grid.h"

namespace coterie::emulation {
namespace {

Settings FromEnvironment() {
  Settings settings;
  const char* const order = std::getenv("COTERIE_EMULATION_ORDER");
  const std::string name = order == nullptr ? "ascending" : order;
  if (name == "descending") {
    settings.order = Order::kDescending;
  } else if (name == "random") {
    settings.order = Order::kRandom;
  } else if (name != "ascending") {
    Fault("COTERIE_EMULATION_ORDER is '" + name + "'; it may be ascending, descending or random");
  }
  if (const char* seed = std::getenv("COTERIE_EMULATION_SEED"))
    settings.seed = std::strtoull(seed, nullptr, 10);
  if (const char* bytes = std::getenv("COTERIE_EMULATION_BYTES")) {
    settings.device_bytes = std::strtoull(bytes, nullptr, 10);
  }
  if (const char* bytes = std::getenv("COTERIE_EMULATION_SHARED_BYTES")) {
    settings.shared_bytes = std::strtoull(bytes, nullptr, 10);
  }
  if (const char* devices = std::getenv("COTERIE_EMULATION_DEVICES")) {
    settings.n_devices = static_cast<int>(std::strtol(devices, nullptr, 10));
  }
  settings.protect = std::getenv("COTERIE_EMULATION_PROTECT") != nullptr;
  settings.vendor_library = std::getenv("COTERIE_EMULATION_WITHOUT_CUBLASLT") == nullptr;
  return settings;
}

}  // namespace

Settings& TheSettings() {
  static auto& settings = *new Settings(FromEnvironment());
  return settings;
}

Machine& TheMachine() {
  static auto& machine = *[] {
    auto* const made = new Machine;
    if (const char* n = std::getenv("COTERIE_EMULATION_FAIL_ALLOCATION")) {
      made->fail_allocation_after = static_cast<int>(std::strtol(n, nullptr, 10));
    }
    return made;
  }();
  return machine;
}

int& CurrentDevice() {
  static thread_local int device = 0;
  return device;
}

void Machine::Enqueue(cudaStream_t stream, Task task) {
  Stream* const to = stream == nullptr ? &null_stream : stream;
  if (to->capture != nullptr) {
    to->capture->tasks.push_back(std::move(task));
    return;
  }
  Operation operation;
  operation.kind = task.kind;
  operation.work = std::make_unique<Work>(Work{std::move(task.run)});
  Release(operation.work.get());
  to->operations.push_back(std::move(operation));
}

bool Machine::FailsAllocation(const char* call, size_t bytes) {
  ++counts.allocations;
  if (fail_allocation_after < 0 || fail_allocation_after-- > 0) return false;
  failed_allocation = {call, bytes};
  if (n_allocation_failures < 0 || --n_allocation_failures > 0) fail_allocation_after = 0;
  return true;
}

void Machine::LookForLoss(int device) {
  static const char* const folder = std::getenv("COTERIE_EMULATION_LOST");
  if (folder == nullptr || lost) return;
  lost = access((std::string(folder) + "/cuda:" + std::to_string(device)).c_str(), F_OK) == 0;
}

bool Machine::Step(Stream* stream) {
  if (stream->operations.empty()) return false;
  LookForLoss(stream == &null_stream ? CurrentDevice() : stream->device);
  if (lost) return false;
  Operation& front = stream->operations.front();
  if (front.wait != nullptr && front.wait->completed < front.count) return false;
  if (front.work_over != nullptr && !*front.work_over) return false;
  if (lose_device_after >= 0 && lose_device_after-- == 0) {
    lost = true;
    return false;
  }
  Operation operation = std::move(front);
  stream->operations.pop_front();
  if (operation.wait != nullptr) stream->timeline.AcquireFrom(&operation.wait->order);
  if (operation.work != nullptr && operation.kind == TaskKind::kHost) operation.work->run();
  if (operation.work != nullptr && operation.kind != TaskKind::kHost) {
    counts.kernels += operation.kind == TaskKind::kKernel;
    counts.copies += operation.kind == TaskKind::kCopy;
    arena.Open();
    stream->timeline.Do(operation.work.release());
    arena.Close();
  }
  if (operation.record != nullptr) {
    stream->timeline.ReleaseTo(&operation.record->order);
    operation.record->completed = operation.count;
    operation.record->seconds =
        std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
  }
  return true;
}

bool Machine::StepAny() {
  if (streams.empty()) return Step(&null_stream);
  const size_t first = random() % streams.size();
  for (size_t i = 0; i < streams.size(); ++i) {
    if (Step(streams[(first + i) % streams.size()])) return true;
  }
  return Step(&null_stream);
}

bool Machine::Finish(Stream* stream) {
  while (!stream->operations.empty() && !lost) {
    if (random() % 4 == 0) StepAny();
    if (stream->operations.empty()) break;
    if (Step(stream) || lost || StepAny() || AwaitForeign()) continue;
    Fault("a stream waits for an event that nothing will reach");
  }
  stream->timeline.Join();
  return !lost;
}

bool Machine::AwaitForeign() {
  const auto waits = [](const Stream& stream) {
    return !stream.operations.empty() && stream.operations.front().work_over != nullptr;
  };
  bool any = waits(null_stream);
  for (const Stream* stream : streams) any = any || waits(*stream);
  if (!any) return false;
  mutex.unlock();
  std::this_thread::sleep_for(std::chrono::microseconds(50));
  mutex.lock();
  return true;
}

void Machine::FinishAll() {
  while (StepAny()) {
  }
  Join();
}

void Machine::Join() {
  for (Stream* stream : streams) stream->timeline.Join();
  null_stream.timeline.Join();
}

void EnqueueKernel(const void* kernel, dim3 grid, dim3 block, size_t shared_bytes, cudaStream_t stream,
                   std::function<void()> lane) {
  Machine& machine = TheMachine();
  const std::lock_guard lock(machine.mutex);
  if (machine.lost) return;
  Grid launch = {kernel, grid, block, shared_bytes, std::move(lane)};
  CheckShape(launch);
  if (stream != nullptr && stream->device != CurrentDevice()) {
    Fault("a launch on a stream of device " + std::to_string(stream->device) +
          " by a thread whose device is " + std::to_string(CurrentDevice()) + " (cudaSetDevice)");
  }
  ++machine.counts.launches;
  if (machine.fail_launch_after >= 0 && machine.fail_launch_after-- == 0) {
    const bool captures = stream != nullptr && stream->capture != nullptr;
    if (captures) stream->capture->spoiled = true;
    return SetLastError(captures ? cudaErrorStreamCaptureInvalidated : cudaErrorMemoryAllocation);
  }
  machine.Enqueue(stream,
                  {TaskKind::kKernel, [launch = std::move(launch)] { RunGrid(launch, Timeline::Fibers()); }});
}

void EnqueueForeign(cudaStream_t stream, std::function<void()> work) {
  Machine& machine = TheMachine();
  const std::lock_guard lock(machine.mutex);
  if (machine.lost) return;
  Stream* const to = stream == nullptr ? &machine.null_stream : stream;
  if (to->capture != nullptr) Fault("work of another library is put into a stream that captures a graph");
  auto over = std::make_shared<std::atomic<bool>>(false);
  machine.Enqueue(stream, {TaskKind::kForeign, [over, work = std::move(work)] {
                             TheMachine().arena.Open();
                             std::thread([over, work] {
                               work();
                               *over = true;
                             }).detach();
                           }});
  Operation wait;
  wait.work_over = over;
  to->operations.push_back(std::move(wait));
  // In a turn of the stream: what comes behind sees what the work has done.
  machine.Enqueue(stream, {TaskKind::kForeign, [over] {
                             if (!*over) Fault("foreign work is over that is not");
                             TheMachine().arena.Close();
                           }});
}

bool IsDeviceMemory(const void* pointer, size_t n_bytes) {
  Machine& machine = TheMachine();
  const std::lock_guard lock(machine.mutex);
  const Allocation* const allocation = machine.arena.Find(pointer, n_bytes);
  return allocation != nullptr && !allocation->pinned;
}

bool IsStream(cudaStream_t stream) {
  Machine& machine = TheMachine();
  const std::lock_guard lock(machine.mutex);
  return std::find(machine.streams.begin(), machine.streams.end(), stream) != machine.streams.end();
}

void CheckArgument(const void* pointer) {
  Machine& machine = TheMachine();
  const std::lock_guard lock(machine.mutex);
  if (pointer == nullptr || machine.arena.Find(pointer, 0) != nullptr) return;
  Fault(machine.arena.Describe(pointer) ? "a kernel is given a pointer to memory that was freed"
                                        : "a kernel is given a pointer to the host's memory");
}

void FailAllocationAfter(int n, int n_times) {
  Machine& machine = TheMachine();
  const std::lock_guard lock(machine.mutex);
  machine.fail_allocation_after = n;
  machine.n_allocation_failures = n_times;
  machine.failed_allocation = {};
}
FailedAllocation LastFailedAllocation() {
  Machine& machine = TheMachine();
  const std::lock_guard lock(machine.mutex);
  return machine.failed_allocation;
}
void FailLaunchAfter(int n) { TheMachine().fail_launch_after = n; }
void LoseDeviceAfter(int n) { TheMachine().lose_device_after = n; }
bool DeviceIsLost() { return TheMachine().lost; }
void ForgetFailures() {
  Machine& machine = TheMachine();
  const std::lock_guard lock(machine.mutex);
  machine.fail_allocation_after = machine.fail_launch_after = -1;
  machine.lose_device_after = machine.fail_product_after = -1;
  machine.lost = false;
}
Counts CountsNow() {
  Machine& machine = TheMachine();
  const std::lock_guard lock(machine.mutex);
  Counts counts = machine.counts;
  counts.streamed_bytes = StreamedBytes();
  return counts;
}

}  // namespace coterie::emulation
