#include "gateway/runtime/work_pool.h"

#include <utility>

namespace coterie::gateway {
namespace {

constexpr int kMaxPassedOver = 7;

}  // namespace

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

Status WorkPool::Submit(std::function<void()> job, Turn turn) {
  MutexLock lock(&mutex_);
  if (stopping_) return absl::UnavailableError(absl::StrCat("the gateway's ", name_, " pool is stopped"));
  std::deque<std::function<void()>>& queue = turn == Turn::kNext ? jobs_ : spare_jobs_;
  if (queue.size() >= max_queued_) {
    return absl::ResourceExhaustedError(
        absl::StrCat("the gateway's ", name_, " queue is full (", max_queued_, " jobs)"));
  }
  queue.push_back(std::move(job));
  changed_.Signal();
  return absl::OkStatus();
}

std::function<void()> WorkPool::TakeLocked() {
  const bool spare = !spare_jobs_.empty() && (jobs_.empty() || n_passed_over_ >= kMaxPassedOver);
  n_passed_over_ = spare || spare_jobs_.empty() ? 0 : n_passed_over_ + 1;
  std::deque<std::function<void()>>& queue = spare ? spare_jobs_ : jobs_;
  std::function<void()> job = std::move(queue.front());
  queue.pop_front();
  return job;
}

void WorkPool::Run() {
  while (true) {
    std::function<void()> job;
    {
      MutexLock lock(&mutex_);
      while (jobs_.empty() && spare_jobs_.empty() && !stopping_) changed_.Wait(&mutex_);
      if (jobs_.empty() && spare_jobs_.empty()) return;
      job = TakeLocked();
    }
    job();
  }
}

}  // namespace coterie::gateway
