#include "gateway/runtime/timer_queue.h"

#include "common/clock.h"

namespace coterie::gateway {

TimerQueue::TimerQueue() : thread_([this] { Run(); }) {}

TimerQueue::~TimerQueue() {
  {
    MutexLock lock(&mutex_);
    stopping_ = true;
    changed_.SignalAll();
  }
  thread_.join();
  // What callbacks own may call us while it goes.
  std::map<std::pair<MonotonicTime, Id>, std::function<void()>> dropped;
  MutexLock lock(&mutex_);
  dropped.swap(due_);
}

TimerQueue::Id TimerQueue::At(MonotonicTime when, std::function<void()> callback) {
  MutexLock lock(&mutex_);
  if (stopping_) return 0;
  const Id id = next_id_++;
  due_.emplace(std::make_pair(when, id), std::move(callback));
  times_.emplace(id, when);
  if (due_.begin()->first.second == id) changed_.SignalAll();
  return id;
}

void TimerQueue::Cancel(Id id) {
  std::function<void()> dropped;  // destroyed outside the lock: it may own what calls us again
  MutexLock lock(&mutex_);
  const auto it = times_.find(id);
  if (it == times_.end()) return;
  const auto entry = due_.find({it->second, id});
  dropped = std::move(entry->second);
  due_.erase(entry);
  times_.erase(it);
}

void TimerQueue::Run() {
  while (true) {
    std::function<void()> callback;
    {
      MutexLock lock(&mutex_);
      while (!stopping_) {
        if (due_.empty()) {
          changed_.Wait(&mutex_);
          continue;
        }
        const auto first = due_.begin();
        if (first->first.first <= MonotonicNow()) {
          callback = std::move(first->second);
          times_.erase(first->first.second);
          due_.erase(first);
          break;
        }
        changed_.WaitUntil(&mutex_, first->first.first);
      }
      if (stopping_) return;
    }
    callback();
  }
}

}  // namespace coterie::gateway
