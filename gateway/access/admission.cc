#include "gateway/access/admission.h"

#include <memory>
#include <optional>
#include <utility>

#include "common/clock.h"
#include "gateway/access/retry_delay.h"

namespace coterie::gateway {
namespace {

constexpr const char* kKindNames[Admission::kKinds] = {"answer", "route", "embed"};
constexpr const char* kReasonNames[] = {"draining", "queue_full", "tenant_queue_full",
                                        "late",     "yielded",    "too_many_paused"};

AdmissionLane::Options Answers(const Admission::Options& options) {
  AdmissionLane::Options lane;
  lane.max_running = options.max_running;
  lane.max_waiting = options.max_waiting;
  lane.tenant_share = options.tenant_share;
  lane.max_running_per_tenant = options.max_running_per_tenant;
  lane.max_waiting_per_tenant = options.max_waiting_per_tenant;
  lane.max_unstarted = options.max_unstarted;
  lane.max_paused = options.max_paused;
  return lane;
}

AdmissionLane::Options Routes(const Admission::Options& options) {
  AdmissionLane::Options lane;
  lane.unit = "routes";
  lane.waiting_flag = "--max-routing-waiting";
  lane.max_running = options.max_routing;
  lane.max_waiting = options.max_routing_waiting;
  lane.tenant_share = options.tenant_share;
  return lane;
}

AdmissionLane::Options Embeds(const Admission::Options& options) {
  AdmissionLane::Options lane;
  lane.unit = "texts to embed";
  lane.waiting_flag = "--max-embedding-waiting";
  lane.max_running = options.max_embedding;
  lane.max_waiting = options.max_embedding_waiting;
  lane.tenant_share = options.tenant_share;
  return lane;
}

}  // namespace

Admission::Ticket& Admission::Ticket::operator=(Ticket&& other) noexcept {
  if (this == &other) return *this;
  Release();
  owner_ = std::exchange(other.owner_, nullptr);
  kind_ = other.kind_;
  place_ = other.place_;
  return *this;
}

void Admission::Ticket::Release() {
  Admission* const owner = std::exchange(owner_, nullptr);
  if (owner == nullptr) return;
  ToTell to_tell;
  {
    MutexLock lock(&owner->mutex_);
    owner->LaneOf(kind_).places.Release(&place_, MonotonicNow());
    owner->GrantLocked(kind_, &to_tell);
  }
  owner->Tell(std::move(to_tell));
}

void Admission::Ticket::Start() {
  if (owner_ == nullptr) return;
  ToTell to_tell;
  {
    MutexLock lock(&owner_->mutex_);
    owner_->LaneOf(kind_).places.Start(&place_, MonotonicNow());
    owner_->GrantLocked(kind_, &to_tell);
  }
  owner_->Tell(std::move(to_tell));
}

Status Admission::Ticket::Pause() {
  if (owner_ == nullptr) return absl::OkStatus();
  ToTell to_tell;
  {
    MutexLock lock(&owner_->mutex_);
    Status status = owner_->LaneOf(kind_).places.Pause(&place_);
    if (!status.ok()) {
      return owner_->RefuseLocked(kind_, AdmissionLane::Refusal::kTooManyPaused, std::move(status));
    }
    owner_->GrantLocked(kind_, &to_tell);
  }
  owner_->Tell(std::move(to_tell));
  return absl::OkStatus();
}

void Admission::Ticket::Resume() {
  if (owner_ == nullptr) return;
  MutexLock lock(&owner_->mutex_);
  owner_->LaneOf(kind_).places.Resume(&place_);
}

Status Admission::Validate(const Options& options) {
  const std::pair<const char*, uint32_t> counts[] = {{"max-running", options.max_running},
                                                     {"max-unstarted", options.max_unstarted},
                                                     {"max-paused", options.max_paused},
                                                     {"max-routing", options.max_routing},
                                                     {"max-embedding", options.max_embedding}};
  for (const auto& [name, value] : counts) {
    if (value == 0) return absl::InvalidArgumentError(absl::StrCat(name, " is 0, must be at least 1"));
  }
  if (!(options.tenant_share >= 0 && options.tenant_share <= 1)) {
    return absl::InvalidArgumentError(
        absl::StrCat("tenant-share is ", options.tenant_share, ", must lie in [0, 1]"));
  }
  return absl::OkStatus();
}

Admission::Admission(const Options& options, TimerQueue* timers)
    : timers_(timers), lanes_{Lane(Answers(options)), Lane(Routes(options)), Lane(Embeds(options))} {}

StatusOr<uint64_t> Admission::Enter(const Entrant& entrant, Callback callback) {
  Ticket ticket;
  ToTell to_tell;
  uint64_t id;
  {
    MutexLock lock(&mutex_);
    if (draining_) {
      return RefuseLocked(entrant.kind, AdmissionLane::Refusal::kNone,
                          absl::UnavailableError("this gateway is draining; ask another one"));
    }
    id = next_id_++;
    const AdmissionLane::Entered entered =
        LaneOf(entrant.kind)
            .places.Enter(
                {id, entrant.tenant, entrant.connection, entrant.priority, entrant.cost, entrant.deadline},
                MonotonicNow());
    if (entered.refusal != AdmissionLane::Refusal::kNone) {
      return RefuseLocked(entrant.kind, entered.refusal, entered.status);
    }
    if (entered.place) {
      ticket = Ticket(this, entrant.kind, *entered.place);
    } else {
      waiters_.emplace(id, Waiter{entrant.kind, std::move(callback)});
    }
    for (const uint64_t other : entered.yields) {
      TellLaterLocked(other, nullptr,
                      RefuseLocked(entrant.kind, AdmissionLane::Refusal::kYielded, entered.why_yields),
                      &to_tell);
    }
    if (!entered.place) GrantLocked(entrant.kind, &to_tell);
  }
  Tell(std::move(to_tell));
  if (callback) callback(std::move(ticket));
  return id;
}

void Admission::Leave(uint64_t id) {
  Callback dropped;  // destroyed outside the lock
  ToTell to_tell;
  {
    MutexLock lock(&mutex_);
    const auto it = waiters_.find(id);
    if (it == waiters_.end()) return;
    dropped = std::move(it->second.callback);
    const Kind kind = it->second.kind;
    LaneOf(kind).places.Leave(id);
    waiters_.erase(it);
    GrantLocked(kind, &to_tell);  // it may have been the large one for which there was no room
  }
  Tell(std::move(to_tell));
}

void Admission::GrantLocked(Kind kind, ToTell* to_tell) {
  AdmissionLane& places = LaneOf(kind).places;
  while (const std::optional<AdmissionLane::Next> next = places.TakeNext(MonotonicNow())) {
    if (next->place) {
      TellLaterLocked(next->id, std::make_shared<Ticket>(Ticket(this, kind, *next->place)), absl::OkStatus(),
                      to_tell);
    } else {
      TellLaterLocked(next->id, nullptr, RefuseLocked(kind, AdmissionLane::Refusal::kLate, next->late),
                      to_tell);
    }
  }
}

void Admission::TellLaterLocked(uint64_t id, std::shared_ptr<Ticket> ticket, Status refused,
                                ToTell* to_tell) {
  const auto it = waiters_.find(id);
  to_tell->push_back({std::move(it->second.callback), std::move(ticket), std::move(refused)});
  waiters_.erase(it);
}

void Admission::Tell(ToTell to_tell) {
  for (Told& told : to_tell) {
    timers_->At(MonotonicTime::InfinitePast(), [told = std::move(told)] {
      if (told.ticket != nullptr) {
        told.callback(std::move(*told.ticket));
      } else {
        told.callback(told.refused);
      }
    });
  }
}

Status Admission::RefuseLocked(Kind kind, AdmissionLane::Refusal reason, Status why) {
  Lane& lane = LaneOf(kind);
  ++lane.refused[static_cast<size_t>(reason)];
  if (absl::IsUnavailable(why)) return why;
  return WithRetryDelay(std::move(why), lane.places.RetryDelay());
}

void Admission::SetCapacity(std::function<uint64_t()> capacity) {
  MutexLock lock(&mutex_);
  LaneOf(Kind::kAnswer).places.SetCapacity(std::move(capacity));
}

void Admission::Drain() {
  MutexLock lock(&mutex_);
  draining_ = true;
}

bool Admission::idle() const {
  MutexLock lock(&mutex_);
  for (const Lane& lane : lanes_) {
    if (!lane.places.idle()) return false;
  }
  return true;
}

uint32_t Admission::running(Kind kind) const {
  MutexLock lock(&mutex_);
  return LaneOf(kind).places.running();
}

uint32_t Admission::waiting(Kind kind) const {
  MutexLock lock(&mutex_);
  return LaneOf(kind).places.waiting();
}

uint32_t Admission::paused() const {
  MutexLock lock(&mutex_);
  return LaneOf(Kind::kAnswer).places.paused();
}

absl::Duration Admission::RetryDelayNow(Kind kind) const {
  MutexLock lock(&mutex_);
  return LaneOf(kind).places.RetryDelay();
}

std::vector<Admission::Refused> Admission::refused() const {
  MutexLock lock(&mutex_);
  std::vector<Refused> all;
  for (size_t kind = 0; kind < kKinds; ++kind) {
    for (size_t reason = 0; reason < kReasons; ++reason) {
      all.push_back({kKindNames[kind], kReasonNames[reason], lanes_[kind].refused[reason]});
    }
  }
  return all;
}

}  // namespace coterie::gateway
