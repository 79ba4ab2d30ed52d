#include "machine.h"

#include <chrono>
#include <cstdlib>
#include <string>

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
  return settings;
}

}  // namespace

Settings& TheSettings() {
  static auto& settings = *new Settings(FromEnvironment());
  return settings;
}

Machine& TheMachine() {
  static auto& machine = *new Machine;
  return machine;
}

const Allocation* Machine::Find(const void* pointer, size_t bytes) const {
  const auto address = reinterpret_cast<uintptr_t>(pointer);
  auto after = allocations.upper_bound(address);
  if (after == allocations.begin()) return nullptr;
  const auto& [begin, allocation] = *--after;
  return address + bytes <= begin + allocation.bytes ? &allocation : nullptr;
}

void Machine::Enqueue(cudaStream_t stream, std::function<void()> run) {
  Stream* const to = stream == nullptr ? &null_stream : stream;
  if (to->capture != nullptr) {
    to->capture->operations.push_back(std::move(run));
  } else {
    to->operations.push_back({std::move(run)});
  }
}

bool Machine::Step(Stream* stream) {
  if (stream->operations.empty() || lost) return false;
  Operation& front = stream->operations.front();
  if (front.wait != nullptr && front.wait->completed < front.count) return false;
  if (lose_device_after >= 0 && lose_device_after-- == 0) {
    lost = true;
    return false;
  }
  const Operation operation = std::move(front);
  stream->operations.pop_front();
  if (operation.run) operation.run();
  if (operation.record != nullptr) {
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
    if (!Step(stream) && !lost && !StepAny()) Fault("a stream waits for an event that nothing will reach");
  }
  return !lost;
}

void EnqueueKernel(const void* kernel, dim3 grid, dim3 block, size_t shared_bytes, cudaStream_t stream,
                   std::function<void()> lane) {
  Machine& machine = TheMachine();
  const std::lock_guard lock(machine.mutex);
  if (machine.lost) return;
  constexpr size_t kMostSharedBytes = 227 * 1024;  // of a block on sm_90
  if (shared_bytes > kMostSharedBytes) {
    Fault("a launch with " + std::to_string(shared_bytes) + " bytes of shared memory, of at most " +
          std::to_string(kMostSharedBytes));
  }
  machine.Enqueue(stream, [&machine, grid = Grid{kernel, grid, block, shared_bytes, std::move(lane)}] {
    ++machine.counts.kernels;
    RunGrid(grid);
  });
}

void CountStreamedBytes(size_t bytes) { TheMachine().counts.streamed_bytes += bytes; }

void FailAllocationAfter(int n) { TheMachine().fail_allocation_after = n; }
void LoseDeviceAfter(int n) { TheMachine().lose_device_after = n; }
bool DeviceIsLost() { return TheMachine().lost; }
void ForgetFailures() {
  Machine& machine = TheMachine();
  const std::lock_guard lock(machine.mutex);
  machine.fail_allocation_after = machine.lose_device_after = -1;
  machine.lost = false;
}
Counts CountsNow() {
  Machine& machine = TheMachine();
  const std::lock_guard lock(machine.mutex);
  return machine.counts;
}

}  // namespace coterie::emulation
