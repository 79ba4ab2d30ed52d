#ifndef COTERIE_KERNELS_CPU_THREAD_POOL_H_
#define COTERIE_KERNELS_CPU_THREAD_POOL_H_

#include <atomic>
#include <cstdint>
#include <thread>
#include <vector>

namespace coterie::cpu {

// A fixed set of threads for the parallel parts of ops. The calling thread is one of them. Workers wait for
// the next part by spinning for a bounded time (a part follows the last within microseconds during a step),
// then park in the kernel until work comes. How items are dealt never changes a result: ops write disjoint
// outputs. Run* is called by one thread at a time; bodies must not call it again.
class ThreadPool {
 public:
  explicit ThreadPool(int n_threads);  // >= 1
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int n_threads() const { return static_cast<int>(workers_.size()) + 1; }

  // body(begin, end, thread) with [0, n) cut into one contiguous range per thread: for streams of weights.
  template <class Body>
  void RunRanges(int64_t n, Body&& body) {
    const int64_t threads = n_threads();
    if (threads == 1 || n < 2) {
      if (n > 0) body(int64_t{0}, n, 0);
      return;
    }
    Dispatch([&](int thread) {
      const int64_t begin = n * thread / threads;
      const int64_t end = n * (thread + 1) / threads;
      if (begin < end) body(begin, end, thread);
    });
  }

  // body(item, thread) for every item of [0, n), dealt one by one: for items of uneven cost.
  template <class Body>
  void RunItems(int64_t n, Body&& body) {
    if (n_threads() == 1 || n < 2) {
      for (int64_t item = 0; item < n; ++item) body(item, 0);
      return;
    }
    next_item_.store(0, std::memory_order_relaxed);
    Dispatch([&](int thread) {
      for (;;) {
        const int64_t item = next_item_.fetch_add(1, std::memory_order_relaxed);
        if (item >= n) return;
        body(item, thread);
      }
    });
  }

 private:
  template <class Job>
  void Dispatch(Job&& job) {
    using Plain = std::remove_reference_t<Job>;
    Start([](void* context, int thread) { (*static_cast<Plain*>(context))(thread); }, &job);
    job(0);
    Finish();
  }
  void Start(void (*function)(void*, int), void* context);
  void Finish();
  void Work(int thread);

  // Written by the caller before the generation moves, read by workers after they saw it move.
  void (*function_)(void*, int) = nullptr;
  void* context_ = nullptr;
  bool stop_ = false;

  alignas(64) std::atomic<int32_t> generation_{0};
  alignas(64) std::atomic<int32_t> running_{0};
  alignas(64) std::atomic<int64_t> next_item_{0};
  std::vector<std::thread> workers_;
};

}  // namespace coterie::cpu

#endif  // COTERIE_KERNELS_CPU_THREAD_POOL_H_
