#ifndef COTERIE_GATEWAY_RUNTIME_WORK_POOL_H_
#define COTERIE_GATEWAY_RUNTIME_WORK_POOL_H_

#include <cstddef>
#include <deque>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "common/mutex.h"
#include "common/status.h"

namespace coterie::gateway {

// A few threads for work that computes (templates, tokenising, embedding a lone question, searching): gRPC's
// own threads are few and carry every stream, so nothing may hold them. Thread-safe.
class WorkPool {
 public:
  enum class Turn {
    kNext,   // somebody waits for its first token
    kSpare,  // nobody does: behind those that somebody waits for, of which it lets a few go first
  };

  // n_threads > 0; at most max_queued jobs of each turn wait.
  WorkPool(std::string name, size_t n_threads, size_t max_queued);
  ~WorkPool();  // as Stop
  WorkPool(const WorkPool&) = delete;
  WorkPool& operator=(const WorkPool&) = delete;

  // ResourceExhausted, naming the pool and its limit, when the queue is full; Unavailable once it is stopped.
  // The job is then dropped.
  Status Submit(std::function<void()> job, Turn turn = Turn::kNext);
  // Finishes what is queued and takes nothing more. Not from a job.
  void Stop();

 private:
  void Run();
  std::function<void()> TakeLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const std::string name_;
  const size_t max_queued_;
  Mutex mutex_;
  CondVar changed_;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::deque<std::function<void()>> jobs_ ABSL_GUARDED_BY(mutex_);
  std::deque<std::function<void()>> spare_jobs_ ABSL_GUARDED_BY(mutex_);
  int n_passed_over_ ABSL_GUARDED_BY(mutex_) = 0;  // turns that spare jobs waited for
  std::vector<std::thread> threads_;
};

}  // namespace coterie::gateway

#endif  // COTERIE_GATEWAY_RUNTIME_WORK_POOL_H_
