#ifndef COTERIE_GATEWAY_RUNTIME_CANCEL_FLAG_H_
#define COTERIE_GATEWAY_RUNTIME_CANCEL_FLAG_H_

#include <atomic>
#include <memory>

namespace coterie::gateway {

// Says to work that stands in a queue, or is about to be started, that nobody wants it any more. Copies are
// one flag. Thread-safe.
class CancelFlag {
 public:
  void Set() { flag_->store(true, std::memory_order_relaxed); }
  bool is_set() const { return flag_->load(std::memory_order_relaxed); }

 private:
  std::shared_ptr<std::atomic<bool>> flag_ = std::make_shared<std::atomic<bool>>(false);
};

}  // namespace coterie::gateway

#endif  // COTERIE_GATEWAY_RUNTIME_CANCEL_FLAG_H_
