// The functions of cuda_runtime.h: memory, streams, events, graphs.
#include <cuda_runtime.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "machine.h"

using coterie::emulation::Acquire;
using coterie::emulation::Allocation;
using coterie::emulation::CurrentDevice;
using coterie::emulation::Event;
using coterie::emulation::Fault;
using coterie::emulation::Graph;
using coterie::emulation::GraphExec;
using coterie::emulation::Machine;
using coterie::emulation::Operation;
using coterie::emulation::Stream;
using coterie::emulation::TaskKind;
using coterie::emulation::TheMachine;
using coterie::emulation::TheSettings;

namespace {

constexpr cudaError_t kLost = cudaErrorUnknown;
constexpr size_t kMostBytesAside = size_t{4} << 20;  // of a host's copy: larger ones are waited for

thread_local cudaError_t last_error = cudaSuccess;

// As CUDA's own, remembers that something was not ready, too: who polls an event clears that.
cudaError_t Return(cudaError_t error) {
  if (error != cudaSuccess) last_error = error;
  return error;
}

}  // namespace

void coterie::emulation::SetLastError(cudaError_t error) { last_error = error; }

namespace {

// What may not be called between a thread's cudaStreamBeginCapture and its end (except in relaxed mode).
thread_local int n_captures = 0;
void CheckNotCapturing(const char* what) {
  if (n_captures > 0) Fault(std::string(what) + " while this thread captures a graph");
}

cudaError_t Allocate(const char* call, void** pointer, size_t bytes, bool pinned) {
  Machine& machine = TheMachine();
  const std::lock_guard lock(machine.mutex);
  CheckNotCapturing("an allocation");
  *pointer = nullptr;
  if (machine.lost) return Return(kLost);
  if (bytes == 0) return cudaSuccess;
  if (machine.FailsAllocation(call, bytes)) return Return(cudaErrorMemoryAllocation);
  const int device = CurrentDevice();
  size_t& used = machine.bytes_of_device[device];
  if (!pinned && used + bytes > TheSettings().device_bytes) return Return(cudaErrorMemoryAllocation);
  *pointer = machine.arena.Allocate(bytes, pinned, device);
  if (*pointer == nullptr) return Return(cudaErrorMemoryAllocation);
  ++machine.counts.live_allocations;
  if (!pinned) machine.counts.live_bytes += bytes, used += bytes;
  return cudaSuccess;
}

void Drop(void* pointer, bool pinned) {
  Machine& machine = TheMachine();
  if (const Allocation* const found = machine.arena.Find(pointer, 0); found != nullptr && !found->pinned) {
    machine.counts.live_bytes -= found->bytes;
    machine.bytes_of_device[found->device] -= found->bytes;
  }
  machine.arena.Free(pointer, pinned);
  --machine.counts.live_allocations;
}

cudaError_t Free(void* pointer, bool pinned) {
  Machine& machine = TheMachine();
  const std::lock_guard lock(machine.mutex);
  CheckNotCapturing("a free");
  if (pointer == nullptr) return cudaSuccess;
  ++machine.counts.waiting_frees;
  machine.FinishAll();  // as the real one, waits for all that is under way
  Drop(pointer, pinned);
  return machine.lost ? Return(kLost) : cudaSuccess;
}

// Checks that an asynchronous copy may read or write there: device memory, or pinned memory of the host.
void CheckEnd(const void* pointer, size_t bytes, bool host, const char* what) {
  const Allocation* const allocation = TheMachine().arena.Find(pointer, bytes);
  if (allocation == nullptr) {
    Fault(std::string("a copy of ") + std::to_string(bytes) + " bytes " + what +
          (host ? " pageable memory, or beyond its allocation"
                : " what is no device memory, or beyond its allocation"));
  }
  if (allocation->pinned != host) Fault(std::string("a copy's direction is wrong: ") + what);
}

// Runs `body` under the machine's lock; what every call does once the device is lost.
template <class Body>
cudaError_t Locked(const Body& body) {
  Machine& machine = TheMachine();
  const std::lock_guard lock(machine.mutex);
  if (machine.lost) return Return(kLost);
  return Return(body(machine));
}

Stream* Of(Machine& machine, cudaStream_t stream) {
  return stream == nullptr ? &machine.null_stream : stream;
}

}  // namespace

const char* cudaGetErrorName(cudaError_t error) {
  switch (error) {
    case cudaSuccess:
      return "cudaSuccess";
    case cudaErrorMemoryAllocation:
      return "cudaErrorMemoryAllocation";
    case cudaErrorInsufficientDriver:
      return "cudaErrorInsufficientDriver";
    case cudaErrorDevicesUnavailable:
      return "cudaErrorDevicesUnavailable";
    case cudaErrorStreamCaptureInvalidated:
      return "cudaErrorStreamCaptureInvalidated";
    case cudaErrorNoDevice:
      return "cudaErrorNoDevice";
    case cudaErrorInvalidDevice:
      return "cudaErrorInvalidDevice";
    case cudaErrorNotReady:
      return "cudaErrorNotReady";
    case cudaErrorUnknown:
      return "cudaErrorUnknown";
    default:
      return "cudaError";
  }
}
const char* cudaGetErrorString(cudaError_t error) { return cudaGetErrorName(error); }
cudaError_t cudaPeekAtLastError() { return last_error; }
cudaError_t cudaGetLastError() {
  const cudaError_t error = TheMachine().lost ? kLost : last_error;
  last_error = cudaSuccess;
  return error;
}

cudaError_t cudaGetDeviceCount(int* count) {
  int runtime_version = 0;
  cudaRuntimeGetVersion(&runtime_version);
  if (TheSettings().driver_version < runtime_version) return Return(cudaErrorInsufficientDriver);
  *count = TheSettings().n_devices;
  return *count > 0 ? cudaSuccess : Return(cudaErrorNoDevice);
}
cudaError_t cudaSetDevice(int device) {
  if (device < 0 || device >= TheSettings().n_devices) return Return(cudaErrorInvalidDevice);
  CurrentDevice() = device;
  {
    const std::lock_guard lock(TheMachine().mutex);
    TheMachine().LookForLoss(device);
  }
  if (TheSettings().refusal != 0) return Return(static_cast<cudaError_t>(TheSettings().refusal));
  return TheMachine().lost ? Return(kLost) : cudaSuccess;
}
cudaError_t cudaGetDevice(int* device) {
  *device = CurrentDevice();
  return cudaSuccess;
}
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int) {
  const auto& settings = TheSettings();
  switch (attribute) {
    case cudaDevAttrMaxSharedMemoryPerBlockOptin:
      *value = static_cast<int>(settings.shared_bytes);
      break;
    case cudaDevAttrMultiProcessorCount:
      *value = settings.n_processors;
      break;
    case cudaDevAttrL2CacheSize:
      *value = 50 << 20;
      break;
    case cudaDevAttrComputeCapabilityMajor:
      *value = settings.compute_major;
      break;
    case cudaDevAttrComputeCapabilityMinor:
      *value = settings.compute_minor;
      break;
  }
  return cudaSuccess;
}
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int) {
  const auto& settings = TheSettings();
  *properties = {};
  std::snprintf(properties->name, sizeof(properties->name), "emulated GPU");
  properties->totalGlobalMem = settings.device_bytes;
  properties->major = settings.compute_major;
  properties->minor = settings.compute_minor;
  properties->multiProcessorCount = settings.n_processors;
  properties->sharedMemPerBlockOptin = settings.shared_bytes;
  properties->l2CacheSize = 50 << 20;
  return cudaSuccess;
}
cudaError_t cudaDriverGetVersion(int* version) {
  *version = TheSettings().driver_version;
  return cudaSuccess;
}
cudaError_t cudaRuntimeGetVersion(int* version) {
  *version = 13000;
  return cudaSuccess;
}
cudaError_t cudaMemGetInfo(size_t* free, size_t* total) {
  return Locked([&](Machine& machine) {
    *total = TheSettings().device_bytes;
    *free = *total - machine.bytes_of_device[CurrentDevice()];
    return cudaSuccess;
  });
}
cudaError_t cudaDeviceSynchronize() {
  return Locked([](Machine& machine) {
    CheckNotCapturing("a wait");
    ++machine.counts.synchronisations;
    do {
      machine.FinishAll();
    } while (!machine.lost && machine.AwaitForeign());
    return machine.lost ? kLost : cudaSuccess;
  });
}

cudaError_t cudaMalloc(void** pointer, size_t bytes) { return Allocate("cudaMalloc", pointer, bytes, false); }
cudaError_t cudaFree(void* pointer) { return Free(pointer, false); }
cudaError_t cudaDeviceGetDefaultMemPool(cudaMemPool_t* pool, int) {
  *pool = nullptr;
  return cudaSuccess;
}
cudaError_t cudaMemPoolSetAttribute(cudaMemPool_t, cudaMemPoolAttr, void*) { return cudaSuccess; }
// There from the call on, and gone when the stream comes to it.
cudaError_t cudaMallocAsync(void** pointer, size_t bytes, cudaStream_t) {
  return Allocate("cudaMallocAsync", pointer, bytes, false);
}
cudaError_t cudaFreeAsync(void* pointer, cudaStream_t stream) {
  Machine& machine = TheMachine();
  const std::lock_guard lock(machine.mutex);
  if (machine.lost) return Free(pointer, false);
  machine.Enqueue(stream, {TaskKind::kHost, [pointer] { Drop(pointer, false); }});
  return cudaSuccess;
}
cudaError_t cudaHostAlloc(void** pointer, size_t bytes, unsigned) {
  return Allocate("cudaHostAlloc", pointer, bytes, true);
}
cudaError_t cudaFreeHost(void* pointer) { return Free(pointer, true); }

// On the null stream, for which streams that do not block do not wait. To the host it is there when the call
// returns; to the device only some time later (CUDA's "API synchronization behavior" promises no more for
// pageable memory, which was copied aside by then): who launches a kernel that reads it waits for the device
// first.
cudaError_t cudaMemcpy(void* to, const void* from, size_t bytes, cudaMemcpyKind kind) {
  return Locked([&](Machine& machine) {
    CheckNotCapturing("cudaMemcpy");
    if (bytes == 0) return cudaSuccess;
    if (kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice) CheckEnd(to, bytes, false, "to");
    if (kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice)
      CheckEnd(from, bytes, false, "from");
    if (kind == cudaMemcpyDeviceToHost) {
      if (!machine.Finish(&machine.null_stream)) return kLost;
      machine.arena.Open();
      std::memcpy(to, from, bytes);
      machine.arena.Close();
      return cudaSuccess;
    }
    if (kind == cudaMemcpyDeviceToDevice) {
      machine.Enqueue(nullptr, {TaskKind::kCopy, [=] { std::memmove(to, from, bytes); }});
      return cudaSuccess;
    }
    const auto* const source = static_cast<const unsigned char*>(from);
    // The work alone owns them: what the two sides of a count of owners do, the thread sanitizer would have
    // to see ordered.
    std::vector<unsigned char> aside(source, source + bytes);
    machine.Enqueue(nullptr, {TaskKind::kCopy, [to, aside = std::move(aside)] {
                                std::memcpy(to, aside.data(), aside.size());
                              }});
    const bool pinned = machine.arena.Find(from, bytes) != nullptr;
    if ((pinned || bytes > kMostBytesAside) && !machine.Finish(&machine.null_stream)) return kLost;
    return cudaSuccess;
  });
}
cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream) {
  return Locked([&](Machine& machine) {
    if (bytes == 0) return cudaSuccess;
    CheckEnd(to, bytes, kind == cudaMemcpyDeviceToHost, "to");
    CheckEnd(from, bytes, kind == cudaMemcpyHostToDevice, "from");
    machine.Enqueue(stream, {TaskKind::kCopy, [=] { std::memmove(to, from, bytes); }});
    return cudaSuccess;
  });
}
cudaError_t cudaMemset(void* to, int value, size_t bytes) {
  return Locked([&](Machine& machine) {
    CheckNotCapturing("cudaMemset");
    if (bytes == 0) return cudaSuccess;
    CheckEnd(to, bytes, false, "to");
    machine.Enqueue(nullptr, {TaskKind::kCopy, [=] { std::memset(to, value, bytes); }});
    return cudaSuccess;
  });
}
cudaError_t cudaMemsetAsync(void* to, int value, size_t bytes, cudaStream_t stream) {
  return Locked([&](Machine& machine) {
    if (bytes == 0) return cudaSuccess;
    CheckEnd(to, bytes, false, "to");
    machine.Enqueue(stream, {TaskKind::kCopy, [=] { std::memset(to, value, bytes); }});
    return cudaSuccess;
  });
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned flags) {
  return Locked([&](Machine& machine) {
    if (flags != cudaStreamNonBlocking)
      Fault("streams wait for nothing but events here: cudaStreamNonBlocking");
    if (machine.FailsAllocation("cudaStreamCreate")) return cudaErrorMemoryAllocation;
    *stream = new Stream;
    ++machine.counts.live_objects;
    (*stream)->device = CurrentDevice();
    machine.streams.push_back(*stream);
    return cudaSuccess;
  });
}
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  Machine& machine = TheMachine();
  const std::lock_guard lock(machine.mutex);
  machine.Finish(stream);
  std::erase(machine.streams, stream);
  --machine.counts.live_objects;
  delete stream;
  return cudaSuccess;
}
cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  return Locked([&](Machine& machine) {
    ++machine.counts.synchronisations;
    if (Of(machine, stream)->capture != nullptr) Fault("a stream is waited for while it captures");
    return machine.Finish(Of(machine, stream)) ? cudaSuccess : kLost;
  });
}
cudaError_t cudaStreamQuery(cudaStream_t stream) {
  return Locked([&](Machine& machine) {
    machine.StepAny();
    if (machine.lost) return kLost;
    if (!Of(machine, stream)->operations.empty()) return cudaErrorNotReady;
    Of(machine, stream)->timeline.Join();
    return cudaSuccess;
  });
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) {
  return Locked([&](Machine& machine) {
    if (machine.FailsAllocation("cudaEventCreate")) return cudaErrorMemoryAllocation;
    *event = new Event;
    (*event)->device = CurrentDevice();
    ++machine.counts.live_objects;
    return cudaSuccess;
  });
}
cudaError_t cudaEventDestroy(cudaEvent_t event) {
  Machine& machine = TheMachine();
  const std::lock_guard lock(machine.mutex);
  while (!machine.lost && event->completed < event->recorded && machine.StepAny()) {
  }
  for (Stream* stream : machine.streams) {
    for (Operation& operation : stream->operations) {
      if (operation.record == event) operation.record = nullptr;
      if (operation.wait == event) operation.wait = nullptr;
    }
  }
  --machine.counts.live_objects;
  delete event;
  return cudaSuccess;
}
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  return Locked([&](Machine& machine) {
    if (Of(machine, stream)->capture != nullptr) Fault("an event is recorded into a graph");
    if (event->device != Of(machine, stream)->device) return cudaErrorInvalidResourceHandle;
    Operation operation;
    operation.record = event;
    operation.count = ++event->recorded;
    Of(machine, stream)->operations.push_back(std::move(operation));
    return cudaSuccess;
  });
}
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
  return Locked([&](Machine& machine) {
    if (Of(machine, stream)->capture != nullptr) Fault("an event is waited for in a graph");
    Operation operation;
    operation.wait = event;
    operation.count = event->recorded;
    Of(machine, stream)->operations.push_back(std::move(operation));
    return cudaSuccess;
  });
}
cudaError_t cudaEventQuery(cudaEvent_t event) {
  return Locked([&](Machine& machine) {
    const bool reached = event->completed >= event->recorded;
    if (!reached) machine.StepAny();
    if (machine.lost) return kLost;
    if (reached) Acquire(&event->order);
    return reached ? cudaSuccess : cudaErrorNotReady;  // who asks once is told late
  });
}
cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  return Locked([&](Machine& machine) {
    ++machine.counts.synchronisations;
    while (event->completed < event->recorded) {
      if (machine.StepAny()) continue;
      if (machine.lost) return kLost;
      if (machine.AwaitForeign()) continue;
      Fault("an event is waited for that nothing will reach");
    }
    Acquire(&event->order);
    return cudaSuccess;
  });
}
cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t begin, cudaEvent_t end) {
  *milliseconds = static_cast<float>((end->seconds - begin->seconds) * 1e3);
  return cudaSuccess;
}

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode mode) {
  return Locked([&](Machine& machine) {
    if (stream == nullptr || stream->capture != nullptr) return cudaErrorInvalidValue;
    if (machine.FailsAllocation("cudaStreamBeginCapture")) return cudaErrorMemoryAllocation;
    ++machine.counts.live_objects;
    stream->capture = new Graph;
    stream->capture->relaxed = mode == cudaStreamCaptureModeRelaxed;
    if (!stream->capture->relaxed) ++n_captures;
    return cudaSuccess;
  });
}
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
  Machine& machine = TheMachine();
  const std::lock_guard lock(machine.mutex);
  *graph = stream->capture;
  if (stream->capture == nullptr) return Return(cudaErrorInvalidValue);
  if (!stream->capture->relaxed && --n_captures < 0) Fault("a thread ends a capture that another one began");
  stream->capture = nullptr;
  if (!(*graph)->spoiled) return machine.lost ? Return(kLost) : cudaSuccess;
  cudaGraphDestroy(*graph);
  *graph = nullptr;
  return Return(machine.lost ? kLost : cudaErrorStreamCaptureInvalidated);
}
cudaError_t cudaGraphInstantiate(cudaGraphExec_t* exec, cudaGraph_t graph, unsigned long long) {
  return Locked([&](Machine& machine) {
    if (machine.FailsAllocation("cudaGraphInstantiate")) return cudaErrorMemoryAllocation;
    *exec = new GraphExec{graph->tasks};
    ++machine.counts.live_objects;
    return cudaSuccess;
  });
}
cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t stream) {
  return Locked([&](Machine& machine) {
    if (machine.FailsAllocation("cudaGraphLaunch")) return cudaErrorMemoryAllocation;
    ++machine.counts.graph_launches;
    for (const auto& task : exec->tasks) machine.Enqueue(stream, task);
    return cudaSuccess;
  });
}
cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  Machine& machine = TheMachine();
  const std::lock_guard lock(machine.mutex);
  if (graph != nullptr) --machine.counts.live_objects;
  delete graph;
  return cudaSuccess;
}
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec) {
  Machine& machine = TheMachine();
  const std::lock_guard lock(machine.mutex);
  machine.FinishAll();
  --machine.counts.live_objects;
  delete exec;
  return cudaSuccess;
}
