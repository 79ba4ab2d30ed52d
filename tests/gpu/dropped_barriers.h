#ifndef COTERIE_TESTS_GPU_DROPPED_BARRIERS_H_
#define COTERIE_TESTS_GPU_DROPPED_BARRIERS_H_

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <string>

#include "control.h"

namespace coterie::cuda {

#if defined(__SANITIZE_THREAD__)
inline constexpr bool kSeesRaces = true;
#else
inline constexpr bool kSeesRaces = false;
#endif

// Whether `run()` ever returns anything but `want` without one barrier: in all orders, the random one with
// several seeds. Or ends its process: lanes wait for ever, or the thread sanitizer sees a race.
template <class Run, class Result>
bool IsMissed(int barrier, const Run& run, const Result& want, int n_seeds) {
  const pid_t child = fork();
  if (child == 0) {
    dup2(open("/dev/null", O_WRONLY), STDERR_FILENO);
    alarm(300);
    for (int i = 0; i < n_seeds + 2; ++i) {
      emulation::TheSettings().order = i == 0   ? emulation::Order::kAscending
                                       : i == 1 ? emulation::Order::kDescending
                                                : emulation::Order::kRandom;
      emulation::TheSettings().seed = static_cast<uint64_t>(i);
      emulation::DropBarrier(barrier, kSeesRaces);
      if (run() != want) _exit(1);
    }
    _exit(0);
  }
  int status = 0;
  waitpid(child, &status, 0);
  EXPECT_FALSE(WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM)
      << "barrier " << barrier << " takes too long";
  return !WIFEXITED(status) || WEXITSTATUS(status) != 0;
}

// Passes by each barrier of the kernels that `run` launches, one at a time, and expects it to be missed, but
// for so many: `n_unseen`, and `n_unraced` where the thread sanitizer watches. `run` begins with fresh memory
// each time: what an earlier run has left would hide what this one did not wait for.
template <class Run>
void ExpectEachBarrierIsMissed(const Run& run, int n_seeds, int n_unseen = 0, int n_unraced = 0) {
  if (!emulation::kIsEmulated) GTEST_SKIP() << "a real device keeps its barriers";
#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
  GTEST_SKIP() << "the bits tell, without a sanitizer";
#endif
  emulation::DropBarrier(emulation::kNoBarrier, kSeesRaces);
  const auto want = run();
  const int n_barriers = emulation::CountBarriers();
  emulation::KeepBarriers();
  EXPECT_GT(n_barriers, 0);
  std::string kept;
  int n_kept = 0;
  for (int barrier = 0; barrier < n_barriers; ++barrier) {
    if (IsMissed(barrier, run, want, kSeesRaces ? 1 : n_seeds)) continue;
    kept += ' ' + std::to_string(barrier);
    ++n_kept;
  }
  EXPECT_LE(n_kept, kSeesRaces ? n_unraced : n_unseen)
      << "of " << n_barriers << " barriers nobody misses" << kept;
}

}  // namespace coterie::cuda

#endif  // COTERIE_TESTS_GPU_DROPPED_BARRIERS_H_
