#include "common/shutdown_signal.h"

#include <pthread.h>
#include <unistd.h>

#include <thread>

namespace coterie {

ShutdownSignals* ShutdownSignals::Watch() {
  auto* signals = new ShutdownSignals();
  std::thread([signals] { signals->Run(); }).detach();
  return signals;
}

ShutdownSignals::ShutdownSignals() {
  sigemptyset(&set_);
  sigaddset(&set_, SIGTERM);
  sigaddset(&set_, SIGINT);
  pthread_sigmask(SIG_BLOCK, &set_, nullptr);
}

void ShutdownSignals::BeginServing() {
  MutexLock lock(&mutex_);
  serving_ = true;
}

int ShutdownSignals::WaitForFirst() {
  MutexLock lock(&mutex_);
  while (first_ == 0 && !woken_) came_.Wait(&mutex_);
  return first_;
}

void ShutdownSignals::Wake() {
  MutexLock lock(&mutex_);
  woken_ = true;
  came_.Signal();
}

void ShutdownSignals::Run() {
  for (;;) {
    int signal = 0;
    if (sigwait(&set_, &signal) != 0) continue;
    MutexLock lock(&mutex_);
    // Not exit(): threads that use what it would destroy are running.
    if (!serving_ || first_ != 0) _exit(128 + signal);
    first_ = signal;
    came_.Signal();
  }
}

const char* ShutdownSignalName(int signal) {
  switch (signal) {
    case SIGTERM:
      return "SIGTERM";
    case SIGINT:
      return "SIGINT";
    default:
      return "signal";
  }
}

}  // namespace coterie
