#include "tests/comm/standin_device.h"

#include <deque>
#include <map>
#include <memory>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "tests/comm/nccl_standin.h"

namespace coterie::comm_testing {
namespace {

constexpr int kInvalidHandle = 400;

// Kernels in order, on a thread of its own.
class StreamThread {
 public:
  StreamThread() : thread_([this] { Run(); }) {}
  // When all that stands in it is done.
  ~StreamThread() {
    {
      MutexLock lock(&mutex_);
      stopping_ = true;
      changed_.SignalAll();
    }
    thread_.join();
  }
  void Push(std::function<void()> kernel) {
    MutexLock lock(&mutex_);
    kernels_.push_back(std::move(kernel));
    changed_.SignalAll();
  }

 private:
  void Run() {
    mutex_.Lock();
    for (;;) {
      while (kernels_.empty() && !stopping_) changed_.Wait(&mutex_);
      if (kernels_.empty()) break;
      std::function<void()> kernel = std::move(kernels_.front());
      kernels_.pop_front();
      mutex_.Unlock();
      kernel();
      kernel = nullptr;
      mutex_.Lock();
    }
    mutex_.Unlock();
  }

  Mutex mutex_;
  CondVar changed_;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::deque<std::function<void()>> kernels_ ABSL_GUARDED_BY(mutex_);
  std::thread thread_;
};

struct EventState {
  int n_recorded = 0, n_reached = 0;
};

struct Things {
  Mutex mutex;
  std::map<nccl::Stream, std::shared_ptr<StreamThread>> streams ABSL_GUARDED_BY(mutex);
  std::map<const std::byte*, size_t> memory ABSL_GUARDED_BY(mutex);
  std::map<nccl::Event, EventState> events ABSL_GUARDED_BY(mutex);
  uintptr_t last_event ABSL_GUARDED_BY(mutex) = 0;
};

Things& TheThings() {
  static Things* const things = new Things;
  return *things;
}

std::shared_ptr<StreamThread> FindStream(nccl::Stream stream) {
  Things& things = TheThings();
  MutexLock lock(&things.mutex);
  const auto found = things.streams.find(stream);
  return found == things.streams.end() ? nullptr : found->second;
}

class StandInBuffer : public HostBuffer {
 public:
  explicit StandInBuffer(size_t n_bytes) : HostBuffer(n_bytes) {
    Things& things = TheThings();
    MutexLock lock(&things.mutex);
    things.memory[data()] = n_bytes + 1;
  }
  ~StandInBuffer() override {
    Things& things = TheThings();
    MutexLock lock(&things.mutex);
    things.memory.erase(StandInBuffer::data());
  }
  std::byte* data() final { return HostBuffer::data(); }
};

int EventCreate(nccl::Event* event, unsigned int) {
  Things& things = TheThings();
  MutexLock lock(&things.mutex);
  *event = reinterpret_cast<nccl::Event>(++things.last_event);
  things.events[*event];
  return kDriverSuccess;
}

int EventRecord(nccl::Event event, nccl::Stream stream) {
  if (!StandInDevice::Get().CheckStream(stream)) return kInvalidHandle;
  int number = 0;
  {
    Things& things = TheThings();
    MutexLock lock(&things.mutex);
    const auto state = things.events.find(event);
    if (state == things.events.end()) return kInvalidHandle;
    number = ++state->second.n_recorded;
  }
  StandInDevice::Get().Push(stream, [event, number] {
    Things& now = TheThings();
    MutexLock lock(&now.mutex);
    if (const auto state = now.events.find(event); state != now.events.end())
      state->second.n_reached = number;
  });
  return kDriverSuccess;
}

int EventQuery(nccl::Event event) {
  Things& things = TheThings();
  MutexLock lock(&things.mutex);
  const auto state = things.events.find(event);
  if (state == things.events.end()) return kInvalidHandle;
  return state->second.n_reached == state->second.n_recorded ? kDriverSuccess : kDriverNotReady;
}

int EventDestroy(nccl::Event event) {
  bool there = false;
  {
    Things& things = TheThings();
    MutexLock lock(&things.mutex);
    there = things.events.erase(event) == 1;
  }
  if (!there) StandInDevice::Get().Report("an event was destroyed that is not there");
  return there ? kDriverSuccess : kInvalidHandle;
}

}  // namespace

bool StandInDevice::CheckStream(nccl::Stream stream) {
  if (FindStream(stream) != nullptr) return true;
  Report("a stream that is not there was used");
  return false;
}

void StandInDevice::Push(nccl::Stream stream, std::function<void()> kernel) {
  if (const auto found = FindStream(stream)) found->Push(std::move(kernel));
}

bool StandInDevice::CheckMemory(const void* data, size_t n_bytes, const std::string& what) {
  if (n_bytes == 0) return true;
  const auto* begin = static_cast<const std::byte*>(data);
  {
    Things& things = TheThings();
    MutexLock lock(&things.mutex);
    auto found = things.memory.upper_bound(begin);
    if (found != things.memory.begin()) {
      --found;
      if (begin + n_bytes <= found->first + found->second) return true;
    }
  }
  Report(absl::StrCat(what, ": ", n_bytes, " bytes are not memory of the device"));
  return false;
}

// Without copies: nothing of ours makes any between NCCL's calls.
DriverCalls StandInDevice::Driver() {
  return {.event_create = EventCreate,
          .event_record = EventRecord,
          .event_query = EventQuery,
          .event_destroy = EventDestroy};
}

std::shared_ptr<Buffer> AllocateOnStandIn(size_t n_bytes) { return std::make_shared<StandInBuffer>(n_bytes); }

nccl::Stream CreateStream() {
  auto stream = std::make_shared<StreamThread>();
  Things& things = TheThings();
  MutexLock lock(&things.mutex);
  return things.streams.emplace(stream.get(), stream).first->first;
}

void LetStreamsRun() { std::this_thread::yield(); }

void DestroyStream(nccl::Stream stream) {
  std::shared_ptr<StreamThread> ended = FindStream(stream);
  {
    Things& things = TheThings();
    MutexLock lock(&things.mutex);
    things.streams.erase(stream);
  }
  ended.reset();
}

}  // namespace coterie::comm_testing
