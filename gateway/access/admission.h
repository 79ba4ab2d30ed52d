#ifndef COTERIE_GATEWAY_ACCESS_ADMISSION_H_
#define COTERIE_GATEWAY_ACCESS_ADMISSION_H_

#include <array>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/time/time.h"
#include "common/clock.h"
#include "common/mutex.h"
#include "common/status.h"
#include "gateway/access/admission_lane.h"
#include "gateway/runtime/timer_queue.h"

namespace coterie::gateway {

// The one door that every request for work goes through, whatever it asks for. Bounds what runs and what
// waits, of each kind of work by itself: who embeds texts takes no place from answers, and the other way
// round. AdmissionLane says who is next; the one that is refused gets ResourceExhausted, naming the limit,
// with the time after which it may try again. Thread-safe; outlives its tickets.
class Admission {
 public:
  enum class Kind {
    kAnswer,  // needs a worker: Generate, Score; costs 1
    kRoute,   // the gateway's own cores for a moment; costs 1 per text that it may embed
    kEmbed,   // the gateway's own cores; costs 1 per text
  };
  static constexpr size_t kKinds = 3;

  struct Options {
    uint32_t max_running = 256;
    uint32_t max_waiting = 1024;
    // Of all places of a kind. Within it a tenant's requests come before those of tenants that have more, and
    // beyond it a tenant has what others leave.
    double tenant_share = 0.25;
    // Of one tenant, however much is free; 0: no such limit.
    uint32_t max_running_per_tenant = 0;
    uint32_t max_waiting_per_tenant = 0;
    // Answers that workers were given and have not begun; or as many as have begun, where these are more.
    uint32_t max_unstarted = 32;
    // Answers that nobody reads: they hold no place here. Half of them of one tenant, or on one connection.
    uint32_t max_paused = 1024;
    // More routes at once only make each other, and answers' questions, late.
    uint32_t max_routing = 4;
    uint32_t max_routing_waiting = 1024;
    // In texts. Every text under way is some hundred microseconds of the pool that prepares answers.
    uint32_t max_embedding = 256;
    uint32_t max_embedding_waiting = 4096;
  };

  struct Entrant {
    Kind kind = Kind::kAnswer;
    std::string tenant;
    // One peer's end of it, such as its address and port: who asks for many things on one connection waits
    // behind those of the same tenant who ask for few. Empty: not known.
    std::string connection;
    int32_t priority = 0;
    uint32_t cost = 1;  // > 0
    MonotonicTime deadline = MonotonicTime::InfiniteFuture();
  };

  // The right to run; given back by the destructor. Not thread-safe.
  class Ticket {
   public:
    Ticket() = default;
    Ticket(Ticket&& other) noexcept { *this = std::move(other); }
    Ticket& operator=(Ticket&& other) noexcept;
    ~Ticket() { Release(); }
    void Release();
    // A worker has begun: the next one may be sent there.
    void Start();
    // Nobody reads the answer: others may have its place until it is read again. ResourceExhausted when too
    // many stand still like that: the answer is to end.
    Status Pause();
    void Resume();

   private:
    friend class Admission;
    Ticket(Admission* owner, Kind kind, const AdmissionLane::Place& place)
        : owner_(owner), kind_(kind), place_(place) {}
    Admission* owner_ = nullptr;
    Kind kind_ = Kind::kAnswer;
    AdmissionLane::Place place_;
  };

  // InvalidArgument naming the option.
  static Status Validate(const Options& options);
  Admission(const Options& options, TimerQueue* timers);

  using Callback = std::function<void(StatusOr<Ticket>)>;
  // ResourceExhausted (with a retry delay) or, while draining, Unavailable: refused. Otherwise the callback
  // is called once, here or later on the timers' thread, unless Leave comes first: with a ticket, or refused
  // after all. The id is for Leave.
  StatusOr<uint64_t> Enter(const Entrant& entrant, Callback callback);
  // Stops waiting.
  void Leave(uint64_t id);

  // What tells how many answers all workers hold together, those that wait there or stand still included; 0
  // where nobody knows. What runs and what stands still stay within that: a worker that is full refuses
  // whoever comes next, whatever their share. Called with the lock held.
  void SetCapacity(std::function<uint64_t()> capacity);

  // From now on everything is refused; who waits and who runs goes on.
  void Drain();
  bool idle() const;
  // In the unit of their cost.
  uint32_t running(Kind kind = Kind::kAnswer) const;
  uint32_t waiting(Kind kind = Kind::kAnswer) const;
  uint32_t paused() const;
  // What a refused request is told: when a place should be free, in [0.1 s, 30 s].
  absl::Duration RetryDelayNow(Kind kind = Kind::kAnswer) const;

  // Refused so far, by kind and reason.
  struct Refused {
    const char* kind;
    const char* reason;
    uint64_t n;
  };
  std::vector<Refused> refused() const;

 private:
  // Those of AdmissionLane::Refusal, and draining in the place of kNone.
  static constexpr size_t kReasons = 6;
  struct Lane {
    explicit Lane(AdmissionLane::Options options) : places(std::move(options)) {}
    AdmissionLane places;
    std::array<uint64_t, kReasons> refused{};
  };
  struct Waiter {
    Kind kind;
    Callback callback;
  };

  Lane& LaneOf(Kind kind) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return lanes_[static_cast<size_t>(kind)]; }
  const Lane& LaneOf(Kind kind) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return lanes_[static_cast<size_t>(kind)];
  }
  // Who is to be called, with a ticket or with why there is none.
  struct Told {
    Callback callback;
    std::shared_ptr<Ticket> ticket;
    Status refused;
  };
  using ToTell = std::vector<Told>;
  void GrantLocked(Kind kind, ToTell* to_tell) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void TellLaterLocked(uint64_t id, std::shared_ptr<Ticket> ticket, Status refused, ToTell* to_tell)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // On the timers' thread, since the caller may hold locks of the request that just ended. Without our lock:
  // timers that are about to end drop what they are given, tickets included.
  void Tell(ToTell to_tell) ABSL_LOCKS_EXCLUDED(mutex_);
  Status RefuseLocked(Kind kind, AdmissionLane::Refusal reason, Status why)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  TimerQueue* const timers_;
  mutable Mutex mutex_;
  bool draining_ ABSL_GUARDED_BY(mutex_) = false;
  uint64_t next_id_ ABSL_GUARDED_BY(mutex_) = 1;
  std::array<Lane, kKinds> lanes_ ABSL_GUARDED_BY(mutex_);
  std::map<uint64_t, Waiter> waiters_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace coterie::gateway

#endif  // COTERIE_GATEWAY_ACCESS_ADMISSION_H_
