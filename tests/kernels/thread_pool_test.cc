#include "kernels/cpu/thread_pool.h"

#include <gtest/gtest.h>
#include <sched.h>

#include <atomic>
#include <chrono>

namespace coterie::cpu {
namespace {

TEST(ThreadPool, EveryItemRunsOnceWhateverTheThreadCount) {
  for (int n_threads : {1, 2, 5}) {
    ThreadPool pool(n_threads);
    for (int round = 0; round < 300; ++round) {
      const int64_t n = round % 23;
      std::vector<std::atomic<int>> ranges(23), items(23);
      std::atomic<int64_t> n_ranges = 0;
      pool.RunRanges(n, 1 + round % 3, [&](int64_t begin, int64_t end, int thread) {
        ASSERT_LT(thread, n_threads);
        ++n_ranges;
        for (int64_t i = begin; i < end; ++i) ++ranges[static_cast<size_t>(i)];
      });
      ASSERT_EQ(n_ranges, pool.n_ranges(n, 1 + round % 3)) << n;
      pool.RunItems(n, [&](int64_t i, int) { ++items[static_cast<size_t>(i)]; });
      for (int64_t i = 0; i < 23; ++i) {
        ASSERT_EQ(ranges[static_cast<size_t>(i)], i < n ? 1 : 0);
        ASSERT_EQ(items[static_cast<size_t>(i)], i < n ? 1 : 0);
      }
    }
  }
}

TEST(ThreadPool, WorksAfterItsThreadsHaveParked) {
  ThreadPool pool(3);
  std::atomic<int> total = 0;
  for (int round = 0; round < 5; ++round) {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));  // far beyond the spinning
    pool.RunItems(100, [&](int64_t, int) { ++total; });
  }
  EXPECT_EQ(total, 500);
}

// How many cores each thread that took part may use; 0 for those that did not.
std::vector<int> CoresOfThreads(int n_threads) {
  ThreadPool pool(n_threads);
  std::vector<std::atomic<int>> cores(static_cast<size_t>(n_threads));
  for (int round = 0; round < 50; ++round) {
    pool.RunItems(4 * n_threads, [&](int64_t, int thread) {
      cpu_set_t allowed;
      ASSERT_EQ(sched_getaffinity(0, sizeof(allowed), &allowed), 0);
      cores[static_cast<size_t>(thread)] = CPU_COUNT(&allowed);
      std::this_thread::sleep_for(std::chrono::microseconds(100));  // so that others find items, too
    });
  }
  return {cores.begin(), cores.end()};
}

TEST(ThreadPool, WorkersKeepToACoreEachWhereThereIsOneForEachAndTheCallerIsFree) {
  cpu_set_t allowed;
  ASSERT_EQ(sched_getaffinity(0, sizeof(allowed), &allowed), 0);
  const int n_cores = CPU_COUNT(&allowed);
  for (const int n_threads : {n_cores, n_cores + 1}) {
    const std::vector<int> cores = CoresOfThreads(n_threads);
    EXPECT_EQ(cores[0], n_cores);
    for (size_t thread = 1; thread < cores.size(); ++thread) {
      EXPECT_EQ(cores[thread], n_threads == n_cores ? 1 : n_cores) << thread << " of " << n_threads;
    }
  }
}

}  // namespace
}  // namespace coterie::cpu
