#ifndef COTERIE_GATEWAY_ACCESS_ADMISSION_LANE_H_
#define COTERIE_GATEWAY_ACCESS_ADMISSION_LANE_H_

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "common/clock.h"
#include "common/status.h"
#include "gateway/access/queue_forecast.h"

namespace coterie::gateway {

// The places and the queue of one kind of work: who runs, who waits, who is next. Counts in units of cost.
//
// Next is, of those that wait: a tenant that runs less than its share, whatever the others' priorities; then
// the highest priority; then the tenant that runs least, or whose last turn is longest ago; of one tenant the
// connection that runs least; then the earliest deadline; then who came first. So a tenant alone gets every
// place, and when others come they get the places that its work gives back. A full queue works likewise:
// whoever waits for least finds room, and the tenant (or connection) that waits for most loses its last one.
// Not thread-safe; decides, and calls nobody.
class AdmissionLane {
 public:
  using Id = uint64_t;
  struct Options {
    std::string unit = "requests";  // in messages, as are the names of the flags below
    std::string waiting_flag = "--max-waiting";
    uint32_t max_running = 256;
    uint32_t max_waiting = 1024;
    double tenant_share = 0.25;  // of max_running, within which a tenant comes before those beyond theirs
    // Of one tenant, however much is free; 0: no limit beside the two above.
    uint32_t max_running_per_tenant = 0;
    uint32_t max_waiting_per_tenant = 0;
    // Of those that run, how many may be let in and not begun (or as many as have begun, where these are
    // more): the order here counts for nothing once they stand in a worker's queue. 0: this kind of work
    // begins when it is let in.
    uint32_t max_unstarted = 0;
    // Of those that began, how many may have given up their place because nobody reads them; half of them of
    // one tenant or connection.
    uint32_t max_paused = 0;
  };
  struct Entrant {
    Id id = 0;
    std::string tenant;
    std::string connection;
    int32_t priority = 0;
    uint32_t cost = 1;
    MonotonicTime deadline = MonotonicTime::InfiniteFuture();
  };
  // What one tenant, or one connection, has here.
  struct Books {
    std::string name;
    uint32_t running = 0;
    uint32_t unstarted = 0;  // of these
    uint32_t waiting = 0;
    uint32_t paused = 0;
    uint64_t last_turn = 0;  // number of the last place it was given
    bool idle() const { return running == 0 && waiting == 0 && paused == 0; }
  };
  // A place that somebody holds; valid until Release.
  struct Place {
    enum class State { kNone, kUnstarted, kStarted, kPaused };
    State state = State::kNone;
    Books* tenant = nullptr;
    Books* connection = nullptr;
    uint32_t cost = 1;
    MonotonicTime since;    // let in
    MonotonicTime started;  // once it has
  };
  enum class Refusal { kNone, kQueueFull, kTenantQueueFull, kLate, kYielded, kTooManyPaused };

  explicit AdmissionLane(Options options) : options_(std::move(options)) {}

  // See Admission::SetCapacity; null: nobody knows.
  void SetCapacity(std::function<uint64_t()> capacity) { capacity_ = std::move(capacity); }

  // A newcomer may push out others, who are refused then.
  struct Entered {
    Refusal refusal = Refusal::kNone;
    Status status;
    std::optional<Place> place;  // it runs; without this and without a refusal it waits
    std::vector<Id> yields;
    Status why_yields;
  };
  Entered Enter(const Entrant& entrant, MonotonicTime now);
  // Stops waiting. False for who does not wait.
  bool Leave(Id id);

  // The next of those that wait: let in with a place, or refused because its time will not do any more.
  struct Next {
    Id id = 0;
    std::optional<Place> place;
    Status late;
  };
  std::optional<Next> TakeNext(MonotonicTime now);

  void Start(Place* place, MonotonicTime now);
  // Gives the place up, or takes it again at once, however many run. Half of what the capacity allows may
  // stand still, and no more than max_paused.
  Status Pause(Place* place);
  void Resume(Place* place);
  void Release(Place* place, MonotonicTime now);

  uint32_t running() const { return running_; }
  uint32_t waiting() const { return waiting_; }
  uint32_t paused() const { return paused_; }
  bool idle() const { return running_ == 0 && waiting_ == 0 && paused_ == 0; }
  // What a refused request is told: when a place should be free, in [0.1 s, 30 s].
  absl::Duration RetryDelay() const;

 private:
  // Who waits of one tenant on one connection, the next one first.
  struct Key {
    int32_t priority;
    MonotonicTime deadline;
    Id id;
    friend bool operator<(const Key& a, const Key& b) {
      if (a.priority != b.priority) return a.priority > b.priority;
      if (a.deadline != b.deadline) return a.deadline < b.deadline;
      return a.id < b.id;
    }
  };
  struct Party {
    Books* tenant = nullptr;
    Books* connection = nullptr;
    std::map<Key, uint32_t> queue;  // cost
  };
  using PartyKey = std::pair<Books*, Books*>;
  using BooksOf = std::map<std::string, Books, std::less<>>;

  static Books* Open(const std::string& name, BooksOf* all);
  static void CloseIfIdle(const Books* books, BooksOf* all);
  bool MayRunMore(const Books& tenant, uint32_t cost) const;
  bool HasRoom(uint32_t cost) const;
  Party* Best();
  Party* Longest();
  // Who leaves the full queue for such a newcomer; nobody where it has no better right.
  std::vector<Id> MakeRoom(const Books& tenant, const Books& connection, const Key& key, uint32_t cost);
  bool IsBefore(const Party& a, const Party& b) const;
  Status WhyFull(const Entrant& entrant, const Books& tenant, Refusal* refusal) const;
  // Of those that came before or are more urgent, the units that will begin before such an entrant.
  double Ahead(const Books& tenant, const Key& key) const;
  Status Late(double ahead, absl::Duration left) const;
  Place Seat(Books* tenant, Books* connection, uint32_t cost, MonotonicTime now);
  void Unqueue(Party* party, std::map<Key, uint32_t>::iterator at);
  void CloseBooks(Books* tenant, Books* connection);
  uint32_t InLine(const Books& books) const {
    return books.waiting + (options_.max_unstarted > 0 ? books.unstarted : books.running);
  }

  uint64_t Capacity() const;  // very large where nobody knows

  const Options options_;
  std::function<uint64_t()> capacity_;
  QueueForecast forecast_;
  uint32_t running_ = 0, unstarted_ = 0, waiting_ = 0, paused_ = 0;
  uint64_t n_turns_ = 0;
  BooksOf tenants_;
  BooksOf connections_;
  std::map<PartyKey, Party> parties_;  // those that wait
  std::map<Id, std::pair<PartyKey, Key>> where_;
};

}  // namespace coterie::gateway

#endif  // COTERIE_GATEWAY_ACCESS_ADMISSION_LANE_H_
