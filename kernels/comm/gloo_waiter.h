#ifndef COTERIE_KERNELS_COMM_GLOO_WAITER_H_
#define COTERIE_KERNELS_COMM_GLOO_WAITER_H_

#include <gloo/transport/unbound_buffer.h>

#include <thread>

#include "common/mutex.h"

namespace coterie {

// Waits for Gloo's buffers in short turns. Gloo's own waits either last or, when their time is over, close
// every connection of the group, so that one could neither wait for several members nor look at an abort
// flag; but another thread may end a wait without harm. That is this one's thread. One wait at a time.
class GlooWaiter {
 public:
  enum class Outcome { kDone, kNotYet, kBroken };

  GlooWaiter();
  ~GlooWaiter();

  // kDone once for each finished receive (send). kNotYet after a turn of at most kAbortSlice, and now and
  // then sooner. kBroken: the connection is gone.
  Outcome Received(gloo::transport::UnboundBuffer* buffer);
  Outcome Sent(gloo::transport::UnboundBuffer* buffer);
  // Of a buffer into which a receive waits that is never answered: whether its connection is gone. At once.
  static bool Broken(gloo::transport::UnboundBuffer* buffer);

 private:
  void EndTurns();
  void WaitFor(gloo::transport::UnboundBuffer* buffer);

  Mutex mutex_;
  CondVar changed_;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  gloo::transport::UnboundBuffer* waited_for_ ABSL_GUARDED_BY(mutex_) = nullptr;
  std::thread thread_;
};

}  // namespace coterie

#endif  // COTERIE_KERNELS_COMM_GLOO_WAITER_H_
