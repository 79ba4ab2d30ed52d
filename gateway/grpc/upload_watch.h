#ifndef COTERIE_GATEWAY_GRPC_UPLOAD_WATCH_H_
#define COTERIE_GATEWAY_GRPC_UPLOAD_WATCH_H_

#include <grpcpp/server_context.h>

#include <memory>

#include "common/clock.h"
#include "common/mutex.h"
#include "gateway/runtime/timer_queue.h"

namespace coterie::gateway {

// Cancels an upload whose client sends nothing for too long: there are few at a time, and a thread waits for
// each. For one call, from its handler, which it does not outlive.
class UploadWatch {
 public:
  UploadWatch(TimerQueue* timers, grpc::ServerContext* context, absl::Duration limit)
      : state_(std::make_shared<State>()) {
    state_->timers = timers;
    state_->limit = limit;
    MutexLock lock(&state_->mutex);
    state_->context = context;
    state_->last = MonotonicNow();
    Schedule(state_);
  }
  ~UploadWatch() {
    MutexLock lock(&state_->mutex);
    state_->context = nullptr;
    state_->timers->Cancel(state_->timer);
  }
  UploadWatch(const UploadWatch&) = delete;
  UploadWatch& operator=(const UploadWatch&) = delete;

  // A message came.
  void Touch() {
    MutexLock lock(&state_->mutex);
    state_->last = MonotonicNow();
  }

 private:
  struct State {
    TimerQueue* timers = nullptr;
    absl::Duration limit;
    Mutex mutex;
    grpc::ServerContext* context ABSL_GUARDED_BY(mutex) = nullptr;
    MonotonicTime last ABSL_GUARDED_BY(mutex);
    TimerQueue::Id timer ABSL_GUARDED_BY(mutex) = 0;
  };

  static void Schedule(const std::shared_ptr<State>& state) ABSL_EXCLUSIVE_LOCKS_REQUIRED(state->mutex) {
    state->timer = state->timers->At(state->last + state->limit, [state] {
      MutexLock lock(&state->mutex);
      if (state->context == nullptr) return;
      if (MonotonicNow() - state->last < state->limit) return Schedule(state);
      state->context->TryCancel();
    });
  }

  const std::shared_ptr<State> state_;
};

}  // namespace coterie::gateway

#endif  // COTERIE_GATEWAY_GRPC_UPLOAD_WATCH_H_
