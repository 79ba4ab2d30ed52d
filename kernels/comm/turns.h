#ifndef COTERIE_KERNELS_COMM_TURNS_H_
#define COTERIE_KERNELS_COMM_TURNS_H_

#include <algorithm>
#include <chrono>
#include <thread>

namespace coterie {

// Waits a little longer each time: what takes microseconds is seen at once, and what takes long costs no
// core.
class Turns {
 public:
  void Wait() {
    ++n_;
    if (n_ < 64) return std::this_thread::yield();
    std::this_thread::sleep_for(std::chrono::microseconds(std::min(1'000, n_)));
  }

 private:
  int n_ = 0;
};

}  // namespace coterie

#endif  // COTERIE_KERNELS_COMM_TURNS_H_
