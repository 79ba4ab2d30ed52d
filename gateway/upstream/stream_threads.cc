#include "gateway/upstream/stream_threads.h"

#include <algorithm>

#include "common/clock.h"

namespace coterie::gateway {
namespace {

// As many as gRPC would give all callbacks together on a machine of so many cores, but one on two: a stream's
// messages are read one after the other, and what they lead to is short.
unsigned ThreadCount() { return std::clamp(std::thread::hardware_concurrency() / 2, 1u, 8u); }

}  // namespace

StreamThreads::StreamThreads() {
  for (unsigned i = 0; i < ThreadCount(); ++i) threads_.emplace_back([this] { Run(); });
}

StreamThreads::~StreamThreads() {
  queue_.Shutdown();
  for (std::thread& thread : threads_) thread.join();
}

void StreamThreads::Run() {
  void* tag = nullptr;
  bool ok = false;
  while (queue_.Next(&tag, &ok)) static_cast<Operation*>(tag)->Over(ok);
}

void StreamThreads::Born() {
  MutexLock lock(&mutex_);
  ++n_alive_;
}

void StreamThreads::Gone() {
  MutexLock lock(&mutex_);
  --n_alive_;
  none_.SignalAll();
}

bool StreamThreads::WaitForAll(absl::Duration timeout) {
  const MonotonicTime until = MonotonicNow() + timeout;
  MutexLock lock(&mutex_);
  while (n_alive_ > 0 && MonotonicNow() < until) none_.WaitUntil(&mutex_, until);
  return n_alive_ == 0;
}

}  // namespace coterie::gateway
