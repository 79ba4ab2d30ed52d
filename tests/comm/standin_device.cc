#include "tests/comm/standin_device.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "tests/comm/nccl_standin.h"

namespace coterie::comm_testing {
namespace {

constexpr int kInvalidHandle = 400;

}  // namespace

StandInStream::~StandInStream() {
  {
    MutexLock lock(&mutex_);
    stopping_ = true;
    changed_.SignalAll();
  }
  thread_.join();
}

void StandInStream::Push(std::function<void()> kernel) {
  MutexLock lock(&mutex_);
  kernels_.push_back(std::move(kernel));
  changed_.SignalAll();
}

void StandInStream::Run() {
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

nccl::Stream StandInDevice::AddStream() {
  auto stream = std::make_shared<StandInStream>();
  MutexLock lock(&mutex_);
  return streams_.emplace(stream.get(), stream).first->first;
}

void StandInDevice::RemoveStream(nccl::Stream stream) {
  std::shared_ptr<StandInStream> drained = FindStream(stream);
  MutexLock lock(&mutex_);
  streams_.erase(stream);
}

std::shared_ptr<StandInStream> StandInDevice::FindStream(nccl::Stream stream) {
  {
    MutexLock lock(&mutex_);
    const auto found = streams_.find(stream);
    if (found != streams_.end()) return found->second;
  }
  Report("a stream that is not there was used");
  return nullptr;
}

void StandInDevice::AddMemory(const std::byte* begin, size_t n_bytes) {
  MutexLock lock(&mutex_);
  memory_[begin] = n_bytes;
}

void StandInDevice::RemoveMemory(const std::byte* begin) {
  MutexLock lock(&mutex_);
  memory_.erase(begin);
}

bool StandInDevice::CheckMemory(const void* data, size_t n_bytes, const std::string& what) {
  if (n_bytes == 0) return true;
  const auto* begin = static_cast<const std::byte*>(data);
  {
    MutexLock lock(&mutex_);
    auto found = memory_.upper_bound(begin);
    if (found != memory_.begin()) {
      --found;
      if (begin + n_bytes <= found->first + found->second) return true;
    }
  }
  Report(absl::StrCat(what, ": ", n_bytes, " bytes are not memory of the device"));
  return false;
}

int StandInDevice::EventCreate(nccl::Event* event, unsigned int flags) {
  StandInDevice& device = Get();
  MutexLock lock(&device.mutex_);
  *event = reinterpret_cast<nccl::Event>(++device.last_event_);
  device.events_[*event];
  return nccl::kCudaSuccess;
}

int StandInDevice::EventRecord(nccl::Event event, nccl::Stream stream) {
  StandInDevice& device = Get();
  const std::shared_ptr<StandInStream> found = device.FindStream(stream);
  if (found == nullptr) return kInvalidHandle;
  int number = 0;
  {
    MutexLock lock(&device.mutex_);
    const auto state = device.events_.find(event);
    if (state == device.events_.end()) return kInvalidHandle;
    number = ++state->second.n_recorded;
  }
  found->Push([event, number] {
    StandInDevice& now = Get();
    MutexLock lock(&now.mutex_);
    if (const auto state = now.events_.find(event); state != now.events_.end())
      state->second.n_reached = number;
  });
  return nccl::kCudaSuccess;
}

int StandInDevice::EventQuery(nccl::Event event) {
  StandInDevice& device = Get();
  MutexLock lock(&device.mutex_);
  const auto state = device.events_.find(event);
  if (state == device.events_.end()) return kInvalidHandle;
  return state->second.n_reached == state->second.n_recorded ? nccl::kCudaSuccess : nccl::kCudaNotReady;
}

int StandInDevice::EventDestroy(nccl::Event event) {
  StandInDevice& device = Get();
  bool there = false;
  {
    MutexLock lock(&device.mutex_);
    there = device.events_.erase(event) == 1;
  }
  if (!there) device.Report("an event was destroyed that is not there");
  return there ? nccl::kCudaSuccess : kInvalidHandle;
}

std::shared_ptr<std::byte> AllocateOnStandIn(size_t n_bytes) {
  auto* memory = new std::byte[n_bytes + 1];
  StandInDevice::Get().AddMemory(memory, n_bytes + 1);
  return {memory, [](std::byte* freed) {
            StandInDevice::Get().RemoveMemory(freed);
            delete[] freed;
          }};
}

nccl::Stream CreateStream() { return StandInDevice::Get().AddStream(); }
void DestroyStream(nccl::Stream stream) { StandInDevice::Get().RemoveStream(stream); }
void RunOnStream(nccl::Stream stream, std::function<void()> kernel) {
  if (const auto found = StandInDevice::Get().FindStream(stream)) found->Push(std::move(kernel));
}

}  // namespace coterie::comm_testing
