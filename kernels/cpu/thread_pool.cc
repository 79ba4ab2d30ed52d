#include "kernels/cpu/thread_pool.h"

#include <sched.h>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "common/check.h"
#include "common/cores.h"

namespace coterie::cpu {
namespace {

// 2,000 pauses are 20 to 60 µs: longer than the serial parts within a step, far shorter than a scheduler's
// slice.
constexpr int kSpins = 2000;
constexpr uint64_t kFieldMask = (uint64_t{1} << 20) - 1;

uint64_t Generation(uint64_t part) { return part >> 40; }
uint64_t Items(uint64_t part) { return part >> 20 & kFieldMask; }
uint64_t Next(uint64_t part) { return part & kFieldMask; }

inline void Pause() {
#if defined(__x86_64__)
  _mm_pause();
#else
  std::this_thread::yield();
#endif
}

// The cores this thread may use if there are exactly `n_threads` of them, else none.
std::vector<int> CoresForEach(int n_threads) {
  const std::vector<int> cores = AllowedCores();
  return static_cast<int>(cores.size()) == n_threads ? cores : std::vector<int>();
}

}  // namespace

ThreadPool::ThreadPool(int n_threads) {
  COTERIE_CHECK(n_threads >= 1) << "threads: " << n_threads;
  if (n_threads > 1) cores_ = CoresForEach(n_threads);
  for (int thread = 1; thread < n_threads; ++thread) {
    workers_.emplace_back([this, thread] { Work(thread); });
  }
}

ThreadPool::~ThreadPool() {
  stop_.store(true, std::memory_order_relaxed);
  part_.store((Generation(part_.load(std::memory_order_relaxed)) + 1) << 40, std::memory_order_release);
  part_.notify_all();
  for (std::thread& worker : workers_) worker.join();
}

void ThreadPool::KeepOff(int caller_core) {
  caller_core_ = caller_core;
  auto worker = workers_.begin();
  for (const int core : cores_) {
    if (core == caller_core || worker == workers_.end()) continue;
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(core, &one);
    // If it is refused, the worker stays where it was: slower, not wrong.
    pthread_setaffinity_np((worker++)->native_handle(), sizeof(one), &one);
  }
}

void ThreadPool::Dispatch(int64_t n, void (*function)(const void*, int64_t, int), const void* context) {
  if (!cores_.empty()) {
    if (const int core = sched_getcpu(); core != caller_core_) KeepOff(core);
  }
  const uint64_t generation = Generation(part_.load(std::memory_order_relaxed)) + 1;
  function_ = function;
  context_ = context;
  done_.store(0, std::memory_order_relaxed);
  part_.store(generation << 40 | static_cast<uint64_t>(n) << 20, std::memory_order_release);
  part_.notify_all();
  DoItems(0);
  // Only items that workers have claimed are left.
  for (int spins = 0;; ++spins) {
    const int32_t done = done_.load(std::memory_order_acquire);
    if (done == n) return;
    if (spins < kSpins) {
      Pause();
    } else {
      done_.wait(done, std::memory_order_acquire);
    }
  }
}

void ThreadPool::DoItems(int thread) {
  uint64_t part = part_.load(std::memory_order_acquire);
  while (Next(part) < Items(part)) {
    if (!part_.compare_exchange_weak(part, part + 1, std::memory_order_acq_rel, std::memory_order_acquire))
      continue;
    function_(context_, static_cast<int64_t>(Next(part)), thread);
    // The caller owns the part again once the last item is counted: nothing of it is read after this.
    const int32_t n = static_cast<int32_t>(Items(part));
    if (done_.fetch_add(1, std::memory_order_acq_rel) + 1 == n && thread != 0) done_.notify_one();
    part = part_.load(std::memory_order_acquire);
  }
}

void ThreadPool::Work(int thread) {
  uint64_t generation = 0;
  while (!stop_.load(std::memory_order_relaxed)) {
    uint64_t part = part_.load(std::memory_order_acquire);
    for (int spins = 0; Generation(part) == generation && spins < kSpins; ++spins) {
      Pause();
      part = part_.load(std::memory_order_acquire);
    }
    while (Generation(part) == generation) {
      part_.wait(part, std::memory_order_acquire);
      part = part_.load(std::memory_order_acquire);
    }
    generation = Generation(part);
    DoItems(thread);
  }
}

}  // namespace coterie::cpu
