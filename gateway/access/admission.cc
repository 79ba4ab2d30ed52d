#include "gateway/access/admission.h"

#include <algorithm>
#include <memory>
#include <utility>

#include "common/clock.h"
#include "common/quoted.h"
#include "gateway/access/retry_delay.h"

namespace coterie::gateway {

Admission::Ticket& Admission::Ticket::operator=(Ticket&& other) noexcept {
  if (this == &other) return *this;
  Release();
  owner_ = std::exchange(other.owner_, nullptr);
  tenant_ = std::move(other.tenant_);
  since_ = other.since_;
  return *this;
}

void Admission::Ticket::Release() {
  if (Admission* owner = std::exchange(owner_, nullptr)) owner->Release(tenant_, since_);
}

Status Admission::Validate(const Options& options) {
  if (options.max_running == 0) return absl::InvalidArgumentError("max-running is 0, must be at least 1");
  if (options.max_running_per_tenant == 0) {
    return absl::InvalidArgumentError("max-running-per-tenant is 0, must be at least 1");
  }
  return absl::OkStatus();
}

StatusOr<uint64_t> Admission::Enter(const std::string& tenant, int32_t priority, Callback callback) {
  Ticket ticket;
  uint64_t id;
  {
    MutexLock lock(&mutex_);
    if (draining_) return absl::UnavailableError("this gateway is draining; ask another one");
    Tenant& books = tenants_[tenant];
    id = next_id_++;
    const bool waits = running_ >= options_.max_running || books.running >= options_.max_running_per_tenant;
    if (waits) {
      Status refused;
      if (waiters_.size() >= options_.max_waiting) {
        refused = absl::ResourceExhaustedError(absl::StrCat("the gateway's queue is full: ", running_,
                                                            " requests run and ", waiters_.size(),
                                                            " wait, at most ", options_.max_waiting, " may"));
      } else if (books.waiting >= options_.max_waiting_per_tenant) {
        refused = absl::ResourceExhaustedError(absl::StrCat(
            "the queue of tenant ", Quoted(tenant), " is full: ", books.running, " of its requests run and ",
            books.waiting, " wait, at most ", options_.max_waiting_per_tenant, " may"));
      }
      if (!refused.ok()) {
        const absl::Duration delay = RetryDelayLocked();
        ForgetIfIdle(tenant);
        return WithRetryDelay(refused, delay);
      }
      ++books.waiting;
      waiters_.emplace(id, Waiter{id, tenant, priority, std::move(callback)});
      return id;
    }
    ++running_;
    ++books.running;
    ticket = Ticket(this, tenant);
  }
  callback(std::move(ticket));
  return id;
}

void Admission::Leave(uint64_t id) {
  Callback dropped;  // destroyed outside the lock
  MutexLock lock(&mutex_);
  const auto it = waiters_.find(id);
  if (it == waiters_.end()) return;
  dropped = std::move(it->second.callback);
  --tenants_[it->second.tenant].waiting;
  ForgetIfIdle(it->second.tenant);
  waiters_.erase(it);
}

void Admission::Release(const std::string& tenant, MonotonicTime since) {
  MutexLock lock(&mutex_);
  mean_seconds_ = 0.9 * mean_seconds_ + 0.1 * absl::ToDoubleSeconds(MonotonicNow() - since);
  --running_;
  --tenants_[tenant].running;
  GrantNextLocked();
  ForgetIfIdle(tenant);
}

void Admission::GrantNextLocked() {
  const Waiter* next = nullptr;
  uint32_t next_running = 0;
  for (const auto& [id, waiter] : waiters_) {
    const uint32_t running = tenants_[waiter.tenant].running;
    if (running >= options_.max_running_per_tenant) continue;
    if (next == nullptr || waiter.priority > next->priority ||
        (waiter.priority == next->priority && running < next_running)) {
      next = &waiter;
      next_running = running;
    }
  }
  if (next == nullptr) return;
  Tenant& books = tenants_[next->tenant];
  --books.waiting;
  ++books.running;
  ++running_;
  // Not here: the caller may hold locks of the request that just ended.
  auto ticket = std::make_shared<Ticket>(Ticket(this, next->tenant));
  timers_->At(MonotonicTime::InfinitePast(),
              [ticket, callback = waiters_.at(next->id).callback] { callback(std::move(*ticket)); });
  waiters_.erase(next->id);
}

void Admission::ForgetIfIdle(const std::string& tenant) {
  const auto it = tenants_.find(tenant);
  if (it != tenants_.end() && it->second.running == 0 && it->second.waiting == 0) tenants_.erase(it);
}

void Admission::Drain() {
  MutexLock lock(&mutex_);
  draining_ = true;
}

bool Admission::idle() const {
  MutexLock lock(&mutex_);
  return running_ == 0 && waiters_.empty();
}

uint32_t Admission::running() const {
  MutexLock lock(&mutex_);
  return running_;
}

uint32_t Admission::waiting() const {
  MutexLock lock(&mutex_);
  return static_cast<uint32_t>(waiters_.size());
}

absl::Duration Admission::RetryDelayNow() const {
  MutexLock lock(&mutex_);
  return RetryDelayLocked();
}

absl::Duration Admission::RetryDelayLocked() const {
  const double ahead = static_cast<double>(waiters_.size() + 1) / options_.max_running;
  return absl::Seconds(std::clamp(mean_seconds_ * ahead, 0.1, 30.0));
}

}  // namespace coterie::gateway
