#ifndef COTERIE_KERNELS_COMM_SIGPIPE_BLOCK_H_
#define COTERIE_KERNELS_COMM_SIGPIPE_BLOCK_H_

#include <pthread.h>
#include <signal.h>
#include <time.h>

namespace coterie {

// While one lives, a write of this thread to a connection that is gone gives an error and does not end the
// process (Gloo writes without MSG_NOSIGNAL). Threads that are started meanwhile keep the signal blocked.
class SigpipeBlock {
 public:
  SigpipeBlock() {
    sigset_t pending;
    sigpending(&pending);
    was_pending_ = sigismember(&pending, SIGPIPE) == 1;
    sigemptyset(&pipe_);
    sigaddset(&pipe_, SIGPIPE);
    pthread_sigmask(SIG_BLOCK, &pipe_, &before_);
  }
  ~SigpipeBlock() {
    const timespec at_once = {};
    if (!was_pending_) sigtimedwait(&pipe_, nullptr, &at_once);
    pthread_sigmask(SIG_SETMASK, &before_, nullptr);
  }
  SigpipeBlock(const SigpipeBlock&) = delete;
  SigpipeBlock& operator=(const SigpipeBlock&) = delete;

 private:
  sigset_t pipe_;
  sigset_t before_;
  bool was_pending_ = false;
};

}  // namespace coterie

#endif  // COTERIE_KERNELS_COMM_SIGPIPE_BLOCK_H_
