#include "worker/engine/inbox.h"

#include <utility>

namespace coterie {

void InboxNotes::Clear() {
  submits.clear();
  drawn.clear();
  fails.clear();
  credits.clear();
  cancels.clear();
  prefetches.clear();
  end_all = absl::OkStatus();
}

void Inbox::Submit(std::unique_ptr<Sequence> sequence) {
  MutexLock lock(&mutex_);
  notes_.submits.push_back(std::move(sequence));
  changed_.Signal();
}

void Inbox::PutToken(DrawnToken drawn) {
  MutexLock lock(&mutex_);
  notes_.drawn.push_back(std::move(drawn));
  changed_.Signal();
}

void Inbox::Fail(FailNote note) {
  MutexLock lock(&mutex_);
  notes_.fails.push_back(std::move(note));
  changed_.Signal();
}

void Inbox::Credit(const CreditGrant& grant) {
  MutexLock lock(&mutex_);
  notes_.credits.push_back(grant);
  changed_.Signal();
}

void Inbox::Cancel(uint64_t id) {
  MutexLock lock(&mutex_);
  notes_.cancels.push_back(id);
  changed_.Signal();
}

void Inbox::Prefetch(const Digest& adapter) {
  constexpr size_t kMaxPrefetches = 64;
  MutexLock lock(&mutex_);
  if (notes_.prefetches.size() >= kMaxPrefetches) return;
  notes_.prefetches.push_back(adapter);
  changed_.Signal();
}

void Inbox::EndAll(Status status) {
  MutexLock lock(&mutex_);
  notes_.end_all = std::move(status);
  changed_.Signal();
}

void Inbox::Wake() {
  MutexLock lock(&mutex_);
  woken_ = true;
  changed_.Signal();
}

void Inbox::Stop() {
  MutexLock lock(&mutex_);
  stopping_.store(true, std::memory_order_relaxed);
  changed_.Signal();
}

void Inbox::TryTake(InboxNotes* taken) {
  if (!mutex_.TryLock()) return;
  std::swap(*taken, notes_);
  woken_ = false;
  mutex_.Unlock();
}

void Inbox::WaitUntil(MonotonicTime deadline) {
  MutexLock lock(&mutex_);
  while (!stopping() && !woken_ && notes_.empty()) {
    if (!changed_.WaitUntil(&mutex_, deadline)) break;
  }
  woken_ = false;
}

}  // namespace coterie
