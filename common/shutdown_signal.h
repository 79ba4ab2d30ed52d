#ifndef COTERIE_COMMON_SHUTDOWN_SIGNAL_H_
#define COTERIE_COMMON_SHUTDOWN_SIGNAL_H_

#include <signal.h>

#include "common/mutex.h"

namespace coterie {

// SIGTERM and SIGINT of a process that drains. Before BeginServing the first one ends the process at once (a
// load takes seconds and has nothing to lose); from then on WaitForFirst returns the first, so that the
// caller can drain, and the next ends the process. Exit codes are 128 + signal, as a shell would call it.
// Thread-safe.
class ShutdownSignals {
 public:
  // Blocks both signals and starts the thread that takes them. Call once, before any other thread starts: all
  // of them inherit the block. The result is never destroyed, since its thread watches until the process
  // ends.
  static ShutdownSignals* Watch();
  ShutdownSignals(const ShutdownSignals&) = delete;
  ShutdownSignals& operator=(const ShutdownSignals&) = delete;

  // From here on there may be something to drain. Call before the first listener opens.
  void BeginServing();

  // Returns the first that came since BeginServing, once there is one; 0 where Wake was called before it
  // came.
  int WaitForFirst();
  // Something other than a signal ends the process. Any thread.
  void Wake();

 private:
  ShutdownSignals();
  [[noreturn]] void Run();

  sigset_t set_;
  Mutex mutex_;
  CondVar came_;
  bool serving_ ABSL_GUARDED_BY(mutex_) = false;
  int first_ ABSL_GUARDED_BY(mutex_) = 0;
  bool woken_ ABSL_GUARDED_BY(mutex_) = false;
};

// "SIGTERM", "SIGINT"; "signal" for any other. (strsignal may return a buffer that threads share.)
const char* ShutdownSignalName(int signal);

}  // namespace coterie

#endif  // COTERIE_COMMON_SHUTDOWN_SIGNAL_H_
