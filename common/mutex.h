#ifndef COTERIE_COMMON_MUTEX_H_
#define COTERIE_COMMON_MUTEX_H_

#include <condition_variable>
#include <mutex>

#include "absl/base/thread_annotations.h"
#include "absl/time/time.h"
#include "common/clock.h"

namespace coterie {

// std::mutex with the annotations that clang's -Wthread-safety needs (libstdc++'s own carries none, and
// absl::Mutex is opaque to ThreadSanitizer when Debian's uninstrumented library is linked).
class ABSL_LOCKABLE Mutex {
 public:
  void Lock() ABSL_EXCLUSIVE_LOCK_FUNCTION() { mutex_.lock(); }
  void Unlock() ABSL_UNLOCK_FUNCTION() { mutex_.unlock(); }
  // For threads that must not wait (the engine's step loop): true with the mutex held, or false at once.
  bool TryLock() ABSL_EXCLUSIVE_TRYLOCK_FUNCTION(true) { return mutex_.try_lock(); }

 private:
  friend class CondVar;
  std::mutex mutex_;
};

class ABSL_SCOPED_LOCKABLE MutexLock {
 public:
  explicit MutexLock(Mutex* mutex) ABSL_EXCLUSIVE_LOCK_FUNCTION(mutex) : mutex_(mutex) { mutex_->Lock(); }
  ~MutexLock() ABSL_UNLOCK_FUNCTION() { mutex_->Unlock(); }
  MutexLock(const MutexLock&) = delete;
  MutexLock& operator=(const MutexLock&) = delete;

 private:
  Mutex* mutex_;
};

// Waits hold the mutex before and after; spurious wake-ups happen, so callers loop on their condition.
class CondVar {
 public:
  void Wait(Mutex* mutex) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex) {
    std::unique_lock<std::mutex> lock(mutex->mutex_, std::adopt_lock);
    condition_.wait(lock);
    lock.release();
  }
  // Returns false when `deadline` passed without a wake-up.
  bool WaitUntil(Mutex* mutex, MonotonicTime deadline) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex) {
    std::unique_lock<std::mutex> lock(mutex->mutex_, std::adopt_lock);
    bool woken = true;
    if (deadline == MonotonicTime::InfiniteFuture()) {
      condition_.wait(lock);
    } else {
      // On the steady clock this is pthread_cond_clockwait, which ThreadSanitizer of gcc 12 knows (that of
      // gcc 11 and older does not, and reports false races).
      woken = condition_.wait_until(lock, ToSteadyClock(deadline)) == std::cv_status::no_timeout;
    }
    lock.release();
    return woken;
  }
  bool WaitFor(Mutex* mutex, absl::Duration timeout) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex) {
    return WaitUntil(mutex, MonotonicNow() + timeout);
  }
  void Signal() { condition_.notify_one(); }
  void SignalAll() { condition_.notify_all(); }

 private:
  std::condition_variable condition_;
};

}  // namespace coterie

#endif  // COTERIE_COMMON_MUTEX_H_
