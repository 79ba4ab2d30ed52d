#ifndef COTERIE_COMMON_ON_ALL_CORES_H_
#define COTERIE_COMMON_ON_ALL_CORES_H_

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <iterator>
#include <system_error>
#include <thread>
#include <vector>

#include "common/cores.h"
#include "common/status.h"

namespace coterie {

// Calls body(i), which returns a Status, for each i of [0, n) on every core that this thread may run on, and
// returns when all calls have. For work of milliseconds and more, such as packing weights: threads are
// started in the call and end with it. Items are claimed in ascending order; of several failures the one of
// the lowest i is returned, and items behind a failure may not be called.
template <class Body>
Status OnAllCores(int64_t n, const Body& body) {
  if (n <= 0) return absl::OkStatus();
  const auto n_threads = static_cast<size_t>(std::clamp<int64_t>(std::ssize(AllowedCores()), 1, n));
  std::vector<Status> statuses(n_threads);
  std::vector<int64_t> failed(n_threads, n);
  std::atomic<int64_t> next = 0;
  std::atomic<bool> any_failed = false;
  const auto run = [&](size_t thread) {
    while (!any_failed) {
      const int64_t i = next++;
      if (i >= n) return;
      statuses[thread] = body(i);
      if (statuses[thread].ok()) continue;
      failed[thread] = i;
      any_failed = true;
    }
  };
  std::vector<std::thread> threads;
  try {
    for (size_t thread = 1; thread < n_threads; ++thread) threads.emplace_back(run, thread);
  } catch (const std::system_error&) {
    // The system has no more threads: those that there are do all of it.
  }
  run(0);
  for (std::thread& thread : threads) thread.join();
  return statuses[static_cast<size_t>(std::min_element(failed.begin(), failed.end()) - failed.begin())];
}

}  // namespace coterie

#endif  // COTERIE_COMMON_ON_ALL_CORES_H_
