#ifndef COTERIE_GATEWAY_ROUTING_ROUTER_STATES_H_
#define COTERIE_GATEWAY_ROUTING_ROUTER_STATES_H_

#include <memory>
#include <utility>

#include "common/mutex.h"
#include "gateway/routing/router_state.h"

namespace coterie::gateway {

// The current RouterState, replaced as a whole. Thread-safe.
class RouterStates {
 public:
  explicit RouterStates(std::shared_ptr<const RouterState> first) : current_(std::move(first)) {}

  std::shared_ptr<const RouterState> Current() const {
    MutexLock lock(&mutex_);
    return current_;
  }
  void Set(std::shared_ptr<const RouterState> next) {
    std::shared_ptr<const RouterState> old;  // destroyed outside the lock: it may be large
    MutexLock lock(&mutex_);
    old = std::exchange(current_, std::move(next));
  }

 private:
  mutable Mutex mutex_;
  std::shared_ptr<const RouterState> current_ ABSL_GUARDED_BY(mutex_);  // never null
};

}  // namespace coterie::gateway

#endif  // COTERIE_GATEWAY_ROUTING_ROUTER_STATES_H_
