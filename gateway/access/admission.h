#ifndef COTERIE_GATEWAY_ACCESS_ADMISSION_H_
#define COTERIE_GATEWAY_ACCESS_ADMISSION_H_

#include <cstdint>
#include <functional>
#include <map>
#include <string>

#include "absl/time/time.h"
#include "common/clock.h"
#include "common/mutex.h"
#include "common/status.h"
#include "gateway/runtime/timer_queue.h"

namespace coterie::gateway {

// Bounds how many requests run and how many wait, in all and of each tenant; the next gets ResourceExhausted
// with the time after which it may try again. Among those that wait the highest priority is next, then the
// tenant with the fewest running, then who came first. Thread-safe; outlives its tickets.
class Admission {
 public:
  struct Options {
    uint32_t max_running = 256;
    uint32_t max_waiting = 1024;
    uint32_t max_running_per_tenant = 256;
    uint32_t max_waiting_per_tenant = 1024;
  };

  // The right to run; given back by the destructor.
  class Ticket {
   public:
    Ticket() = default;
    Ticket(Ticket&& other) noexcept { *this = std::move(other); }
    Ticket& operator=(Ticket&& other) noexcept;
    ~Ticket() { Release(); }
    void Release();

   private:
    friend class Admission;
    Ticket(Admission* owner, std::string tenant)
        : owner_(owner), tenant_(std::move(tenant)), since_(MonotonicNow()) {}
    Admission* owner_ = nullptr;
    std::string tenant_;
    MonotonicTime since_;
  };

  // InvalidArgument naming the option.
  static Status Validate(const Options& options);
  Admission(const Options& options, TimerQueue* timers) : options_(options), timers_(timers) {}

  using Callback = std::function<void(Ticket)>;
  // ResourceExhausted (with a retry delay) or, while draining, Unavailable: refused. Otherwise the callback
  // is called once, here or later on the timers' thread, unless Leave comes first. The id is for Leave.
  StatusOr<uint64_t> Enter(const std::string& tenant, int32_t priority, Callback callback);
  // Stops waiting.
  void Leave(uint64_t id);

  // From now on everything is refused; who waits and who runs goes on.
  void Drain();
  bool idle() const;
  uint32_t running() const;
  uint32_t waiting() const;
  // What a refused request is told: when a place should be free, in [0.1 s, 30 s].
  absl::Duration RetryDelayNow() const;

 private:
  struct Waiter {
    uint64_t id;
    std::string tenant;
    int32_t priority;
    Callback callback;
  };
  struct Tenant {
    uint32_t running = 0;
    uint32_t waiting = 0;
  };

  absl::Duration RetryDelayLocked() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Release(const std::string& tenant, MonotonicTime since);
  void GrantNextLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void ForgetIfIdle(const std::string& tenant) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const Options options_;
  TimerQueue* const timers_;
  mutable Mutex mutex_;
  bool draining_ ABSL_GUARDED_BY(mutex_) = false;
  uint64_t next_id_ ABSL_GUARDED_BY(mutex_) = 1;
  uint32_t running_ ABSL_GUARDED_BY(mutex_) = 0;
  double mean_seconds_ ABSL_GUARDED_BY(mutex_) = 1.0;              // of a request, exponentially weighted
  std::map<std::string, Tenant> tenants_ ABSL_GUARDED_BY(mutex_);  // those that run or wait
  std::map<uint64_t, Waiter> waiters_ ABSL_GUARDED_BY(mutex_);     // by age
};

}  // namespace coterie::gateway

#endif  // COTERIE_GATEWAY_ACCESS_ADMISSION_H_
