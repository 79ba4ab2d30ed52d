#ifndef COTERIE_KERNELS_COMM_ABORT_FLAG_H_
#define COTERIE_KERNELS_COMM_ABORT_FLAG_H_

#include <atomic>

#include "absl/time/time.h"

namespace coterie {

// Ends the waits of one member, its group's formation included: whoever holds the flag may raise it, from any
// thread, once and for good. Waits look at it at least every kAbortSlice.
class AbortFlag {
 public:
  void Raise() { raised_.store(true, std::memory_order_release); }
  bool raised() const { return raised_.load(std::memory_order_acquire); }

 private:
  std::atomic<bool> raised_ = false;
};

inline constexpr absl::Duration kAbortSlice = absl::Milliseconds(5);

}  // namespace coterie

#endif  // COTERIE_KERNELS_COMM_ABORT_FLAG_H_
