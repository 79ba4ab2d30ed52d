#include "kernels/cpu/thread_pool.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "common/check.h"

namespace coterie::cpu {
namespace {

// About 100 µs of pauses: longer than any serial part within a step, shorter than a scheduler tick.
constexpr int kSpins = 2000;

inline void Pause() {
#if defined(__x86_64__)
  _mm_pause();
#else
  std::this_thread::yield();
#endif
}

// Waits until `value` differs from `old`: spins, then parks.
template <class T>
T AwaitChange(const std::atomic<T>& value, T old) {
  for (int i = 0; i < kSpins; ++i) {
    const T now = value.load(std::memory_order_acquire);
    if (now != old) return now;
    Pause();
  }
  for (;;) {
    value.wait(old, std::memory_order_acquire);
    const T now = value.load(std::memory_order_acquire);
    if (now != old) return now;
  }
}

}  // namespace

ThreadPool::ThreadPool(int n_threads) {
  COTERIE_CHECK(n_threads >= 1) << "threads: " << n_threads;
  for (int thread = 1; thread < n_threads; ++thread) {
    workers_.emplace_back([this, thread] { Work(thread); });
  }
}

ThreadPool::~ThreadPool() {
  stop_ = true;
  generation_.fetch_add(1, std::memory_order_release);
  generation_.notify_all();
  for (std::thread& worker : workers_) worker.join();
}

void ThreadPool::Start(void (*function)(void*, int), void* context) {
  function_ = function;
  context_ = context;
  running_.store(static_cast<int32_t>(workers_.size()), std::memory_order_relaxed);
  generation_.fetch_add(1, std::memory_order_release);
  generation_.notify_all();
}

void ThreadPool::Finish() {
  int32_t left = running_.load(std::memory_order_acquire);
  while (left != 0) left = AwaitChange(running_, left);
}

void ThreadPool::Work(int thread) {
  int32_t seen = 0;
  for (;;) {
    seen = AwaitChange(generation_, seen);
    if (stop_) return;
    function_(context_, thread);
    if (running_.fetch_sub(1, std::memory_order_acq_rel) == 1) running_.notify_one();
  }
}

}  // namespace coterie::cpu
