#include "gateway/runtime/work_pool.h"

#include <utility>

namespace coterie::gateway {

WorkPool::WorkPool(std::string name, size_t n_threads, size_t max_queued)
    : name_(std::move(name)), max_queued_(max_queued) {
  for (size_t i = 0; i < n_threads; ++i) threads_.emplace_back([this] { Run(); });
}

WorkPool::~WorkPool() { Stop(); }

void WorkPool::Stop() {
  {
    MutexLock lock(&mutex_);
    stopping_ = true;
    changed_.SignalAll();
  }
  for (std::thread& thread : threads_) {
    if (thread.joinable()) thread.join();
  }
}

Status WorkPool::Submit(std::function<void()> job) {
  MutexLock lock(&mutex_);
  if (stopping_) return absl::UnavailableError(absl::StrCat("the gateway's ", name_, " pool is stopped"));
  if (jobs_.size() >= max_queued_) {
    return absl::ResourceExhaustedError(
        absl::StrCat("the gateway's ", name_, " queue is full (", max_queued_, " jobs)"));
  }
  jobs_.push_back(std::move(job));
  changed_.Signal();
  return absl::OkStatus();
}

void WorkPool::Run() {
  while (true) {
    std::function<void()> job;
    {
      MutexLock lock(&mutex_);
      while (jobs_.empty() && !stopping_) changed_.Wait(&mutex_);
      if (jobs_.empty()) return;
      job = std::move(jobs_.front());
      jobs_.pop_front();
    }
    job();
  }
}

}  // namespace coterie::gateway
