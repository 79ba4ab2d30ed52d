#ifndef COTERIE_KERNELS_CPU_THREAD_POOL_H_
#define COTERIE_KERNELS_CPU_THREAD_POOL_H_

#include <atomic>
#include <cstdint>
#include <thread>
#include <type_traits>
#include <vector>

namespace coterie::cpu {

// A fixed set of threads for the parallel parts of ops; the calling thread is one of them. A part is a number
// of work items, claimed one by one in ascending order: a thread that the system has taken off its core
// delays only the item it holds, and one that wakes up late finds nothing left to do. Which thread does which
// item never changes a result: ops write disjoint outputs, or merge what threads found in a fixed order.
//
// Workers wait for the next part by spinning for a bounded time (parts follow within microseconds during a
// step), then park in the kernel. A pool with as many threads as it has cores pins each worker to a core of
// its own, away from the caller's. Otherwise the kernel would often wake a worker on the core of the thread
// that woke it, and one core would do the work of two (a text of 64 tokens on two cores that had been idle
// took 3.4 ms to embed instead of 1.8).
//
// Run* is called by one thread at a time; bodies must not call it again.
class ThreadPool {
 public:
  static constexpr int64_t kMaxItems = (1 << 20) - 1;

  explicit ThreadPool(int n_threads);  // >= 1
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int n_threads() const { return static_cast<int>(workers_.size()) + 1; }

  // body(item, thread) for every item of [0, n).
  template <class Body>
  void RunItems(int64_t n, Body&& body) {
    if (n_threads() == 1 || n < 2) {
      for (int64_t item = 0; item < n; ++item) body(item, 0);
      return;
    }
    // With more items than the counter holds, each claim is for several.
    const int64_t grain = (n + kMaxItems - 1) / kMaxItems;
    const auto job = [&](int64_t piece, int thread) {
      const int64_t end = (piece + 1) * grain < n ? (piece + 1) * grain : n;
      for (int64_t item = piece * grain; item < end; ++item) body(item, thread);
    };
    Run((n + grain - 1) / grain, job);
  }

  // Into how many contiguous ranges RunRanges cuts [0, n): `pieces_per_thread` for each of several threads.
  int64_t n_ranges(int64_t n, int pieces_per_thread) const {
    const int64_t pieces = n_threads() == 1 ? 1 : static_cast<int64_t>(n_threads()) * pieces_per_thread;
    return pieces < n ? pieces : n;
  }

  // body(begin, end, thread) over [0, n) cut into n_ranges().
  template <class Body>
  void RunRanges(int64_t n, int pieces_per_thread, Body&& body) {
    const int64_t pieces = n_ranges(n, pieces_per_thread);
    if (pieces < 2) {
      if (n > 0) body(int64_t{0}, n, 0);
      return;
    }
    const auto job = [&](int64_t piece, int thread) {
      body(n * piece / pieces, n * (piece + 1) / pieces, thread);
    };
    Run(pieces, job);
  }

 private:
  template <class Job>
  void Run(int64_t n, const Job& job) {
    Dispatch(
        n,
        [](const void* context, int64_t item, int thread) {
          (*static_cast<const Job*>(context))(item, thread);
        },
        &job);
  }
  void Dispatch(int64_t n, void (*function)(const void*, int64_t, int), const void* context);
  // Claims and does items of the current part until none is left.
  void DoItems(int thread);
  void Work(int thread);
  // Pins every worker to a core of its own other than `caller_core`.
  void KeepOff(int caller_core);

  // The current part: generation (24 bits), items (20), next item to claim (20). Whoever increments `next`
  // while it is below `items` owns that item. Until the owner has counted the item in done_, the part stays,
  // and with it function_ and context_.
  alignas(64) std::atomic<uint64_t> part_{0};
  alignas(64) std::atomic<int32_t> done_{0};
  void (*function_)(const void*, int64_t, int) = nullptr;
  const void* context_ = nullptr;
  std::atomic<bool> stop_{false};
  std::vector<int> cores_;  // as many as threads, or none
  int caller_core_ = -1;    // when workers were last given theirs
  std::vector<std::thread> workers_;
};

}  // namespace coterie::cpu

#endif  // COTERIE_KERNELS_CPU_THREAD_POOL_H_
