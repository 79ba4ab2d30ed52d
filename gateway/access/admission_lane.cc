#include "gateway/access/admission_lane.h"

#include <algorithm>
#include <limits>

#include "common/quoted.h"

namespace coterie::gateway {

AdmissionLane::Entered AdmissionLane::Enter(const Entrant& entrant, MonotonicTime now) {
  Entered entered;
  Books* const tenant = Open(entrant.tenant, &tenants_);
  Books* const connection = Open(entrant.connection, &connections_);
  const Key key{entrant.priority, entrant.deadline, entrant.id};
  const double ahead = Ahead(*tenant, key);
  if (!forecast_.CanEndWithin(entrant.deadline - now, ahead)) {
    entered.refusal = Refusal::kLate;
    entered.status = Late(ahead, entrant.deadline - now);
  } else if (Best() == nullptr && HasRoom(entrant.cost) && MayRunMore(*tenant, entrant.cost)) {
    entered.place = Seat(tenant, connection, entrant.cost, now);
    return entered;
  } else {
    entered.status = WhyFull(entrant, *tenant, &entered.refusal);
  }
  std::vector<Id> yields;
  if (entered.refusal == Refusal::kQueueFull) yields = MakeRoom(*tenant, *connection, key, entrant.cost);
  if (!yields.empty()) {
    entered.refusal = Refusal::kNone;
    entered.status = absl::OkStatus();
  }
  if (entered.refusal != Refusal::kNone) {
    CloseBooks(tenant, connection);
    return entered;
  }
  Party& party = parties_[{tenant, connection}];
  party.tenant = tenant;
  party.connection = connection;
  party.queue.emplace(key, entrant.cost);
  where_.emplace(entrant.id, std::make_pair(PartyKey{tenant, connection}, key));
  waiting_ += entrant.cost;
  tenant->waiting += entrant.cost;
  connection->waiting += entrant.cost;
  for (const Id id : yields) Leave(id);
  if (!yields.empty()) {
    entered.why_yields = absl::ResourceExhaustedError(
        absl::StrCat("the gateway's queue is full (", options_.waiting_flag, " ", options_.max_waiting,
                     "), and of those that wait for most in it this one gave its place to another"));
    entered.yields = std::move(yields);
  }
  return entered;
}

std::vector<AdmissionLane::Id> AdmissionLane::MakeRoom(const Books& tenant, const Books& connection,
                                                       const Key& key, uint32_t cost) {
  std::vector<Id> yields;
  Party* const longest = Longest();
  if (longest == nullptr) return yields;
  // The difference that is left between the two afterwards must not be turned round, or they would push each
  // other out for ever.
  const bool of_others = longest->tenant != &tenant;
  uint32_t excess =
      of_others ? longest->tenant->waiting - std::min(longest->tenant->waiting, tenant.waiting)
                : longest->connection->waiting - std::min(longest->connection->waiting, connection.waiting);
  const bool more_urgent = longest->tenant == &tenant && longest->connection == &connection;
  uint32_t room = options_.max_waiting - std::min(options_.max_waiting, waiting_);
  for (auto it = longest->queue.rbegin(); it != longest->queue.rend() && room < cost; ++it) {
    if (more_urgent ? it->first.priority >= key.priority : excess <= cost) break;
    excess -= std::min(excess, it->second);
    room += it->second;
    yields.push_back(it->first.id);
  }
  if (room < cost) yields.clear();
  return yields;
}

bool AdmissionLane::Leave(Id id) {
  const auto where = where_.find(id);
  if (where == where_.end()) return false;
  Party& party = parties_.at(where->second.first);
  Unqueue(&party, party.queue.find(where->second.second));
  return true;
}

std::optional<AdmissionLane::Next> AdmissionLane::TakeNext(MonotonicTime now) {
  Party* const best = Best();
  if (best == nullptr) return std::nullopt;
  const auto first = best->queue.begin();
  const uint32_t cost = first->second;
  if (!HasRoom(cost)) return std::nullopt;
  Next next;
  next.id = first->first.id;
  const absl::Duration left = first->first.deadline - now;
  Books* const tenant = best->tenant;
  Books* const connection = best->connection;
  const double ahead = Ahead(*tenant, first->first);
  if (forecast_.CanEndWithin(left, ahead)) {
    next.place = Seat(tenant, connection, cost, now);  // first: the books stay open
  } else {
    next.late = Late(ahead, left);
  }
  Unqueue(best, first);
  return next;
}

void AdmissionLane::Start(Place* place, MonotonicTime now) {
  if (place->state != Place::State::kUnstarted) return;
  place->state = Place::State::kStarted;
  place->started = now;
  forecast_.Began(place->since, place->cost, now);
  unstarted_ -= place->cost;
  place->tenant->unstarted -= place->cost;
  place->connection->unstarted -= place->cost;
}

Status AdmissionLane::Pause(Place* place) {
  if (place->state != Place::State::kStarted) return absl::OkStatus();
  const uint64_t capacity = Capacity();
  const uint64_t most = std::min<uint64_t>(options_.max_paused, capacity - capacity / 2);
  const uint64_t most_of_one = std::max<uint64_t>(1, most / 2);
  const auto refuse = [&](const char* whose, uint32_t n, uint64_t limit) {
    return absl::ResourceExhaustedError(
        absl::StrCat("this answer is not read as fast as it comes, as ", n, " others ", whose, "; at most ",
                     limit, " may be (--max-paused ", options_.max_paused,
                     most < options_.max_paused
                         ? absl::StrCat(", and half of the ", capacity, " answers that the workers hold")
                         : "",
                     "): read faster, or ask for less at once"));
  };
  if (place->connection->paused + place->cost > most_of_one) {
    return refuse("on this connection", place->connection->paused, most_of_one);
  }
  if (place->tenant->paused + place->cost > most_of_one) {
    return refuse("of this tenant", place->tenant->paused, most_of_one);
  }
  if (paused_ + place->cost > most) return refuse("here", paused_, most);
  place->state = Place::State::kPaused;
  running_ -= place->cost;
  paused_ += place->cost;
  for (Books* books : {place->tenant, place->connection}) {
    books->running -= place->cost;
    books->paused += place->cost;
  }
  return absl::OkStatus();
}

void AdmissionLane::Resume(Place* place) {
  if (place->state != Place::State::kPaused) return;
  place->state = Place::State::kStarted;
  running_ += place->cost;
  paused_ -= place->cost;
  for (Books* books : {place->tenant, place->connection}) {
    books->running += place->cost;
    books->paused -= place->cost;
  }
}

void AdmissionLane::Release(Place* place, MonotonicTime now) {
  if (place->state == Place::State::kNone) return;
  const bool was_paused = place->state == Place::State::kPaused;
  Resume(place);
  if (place->state == Place::State::kUnstarted) {  // it never began: that says nothing of the others
    unstarted_ -= place->cost;
    place->tenant->unstarted -= place->cost;
    place->connection->unstarted -= place->cost;
  } else {
    if (options_.max_unstarted == 0) forecast_.Began(place->since, place->cost, now);
    if (!was_paused) forecast_.Ended(now - place->started);  // else its reader's time
  }
  running_ -= place->cost;
  place->tenant->running -= place->cost;
  place->connection->running -= place->cost;
  CloseBooks(place->tenant, place->connection);
  *place = Place();
}

absl::Duration AdmissionLane::RetryDelay() const {
  const double in_line = waiting_ + (options_.max_unstarted > 0 ? unstarted_ : running_);
  const absl::Duration wait =
      std::max(forecast_.Wait(in_line), forecast_.run() * (waiting_ + 1.0) / options_.max_running);
  return std::clamp(wait, absl::Milliseconds(100), absl::Seconds(30));
}

AdmissionLane::Books* AdmissionLane::Open(const std::string& name, BooksOf* all) {
  Books& books = (*all)[name];
  books.name = name;
  return &books;
}

void AdmissionLane::CloseIfIdle(const Books* books, BooksOf* all) {
  if (!books->idle()) return;
  const auto it = all->find(books->name);
  if (it != all->end()) all->erase(it);
}

void AdmissionLane::CloseBooks(Books* tenant, Books* connection) {
  CloseIfIdle(tenant, &tenants_);
  CloseIfIdle(connection, &connections_);
}

bool AdmissionLane::MayRunMore(const Books& tenant, uint32_t cost) const {
  const uint32_t most = options_.max_running_per_tenant;
  return most == 0 || tenant.running == 0 || tenant.running + cost <= most;
}

uint64_t AdmissionLane::Capacity() const {
  const uint64_t known = capacity_ == nullptr ? 0 : capacity_();
  return known == 0 ? std::numeric_limits<uint32_t>::max() : known;
}

// Whatever costs more than all places there are runs alone.
bool AdmissionLane::HasRoom(uint32_t cost) const {
  if (running_ > 0 && running_ + cost > options_.max_running) return false;
  // Those that stand still keep a place at their worker; half of all is left to those that run.
  const uint64_t capacity = Capacity();
  if (running_ > 0 && running_ + cost > capacity - std::min<uint64_t>(paused_, capacity / 2)) return false;
  return options_.max_unstarted == 0 || unstarted_ < std::max(options_.max_unstarted, running_ - unstarted_);
}

bool AdmissionLane::IsBefore(const Party& a, const Party& b) const {
  const double share = options_.tenant_share * options_.max_running;
  const bool a_over = a.tenant->running >= share;
  const bool b_over = b.tenant->running >= share;
  if (a_over != b_over) return b_over;
  const Key& first_a = a.queue.begin()->first;
  const Key& first_b = b.queue.begin()->first;
  if (first_a.priority != first_b.priority) return first_a.priority > first_b.priority;
  if (a.tenant->running != b.tenant->running) return a.tenant->running < b.tenant->running;
  if (a.tenant->last_turn != b.tenant->last_turn) return a.tenant->last_turn < b.tenant->last_turn;
  if (a.connection->running != b.connection->running) return a.connection->running < b.connection->running;
  return first_a < first_b;
}

AdmissionLane::Party* AdmissionLane::Best() {
  Party* best = nullptr;
  for (auto& [key, party] : parties_) {
    if (!MayRunMore(*party.tenant, party.queue.begin()->second)) continue;
    if (best == nullptr || IsBefore(party, *best)) best = &party;
  }
  return best;
}

AdmissionLane::Party* AdmissionLane::Longest() {
  Party* longest = nullptr;
  for (auto& [key, party] : parties_) {
    if (longest == nullptr || std::make_pair(party.tenant->waiting, party.connection->waiting) >
                                  std::make_pair(longest->tenant->waiting, longest->connection->waiting)) {
      longest = &party;
    }
  }
  return longest;
}

Status AdmissionLane::WhyFull(const Entrant& entrant, const Books& tenant, Refusal* refusal) const {
  const uint32_t most = options_.max_waiting_per_tenant;
  if (most > 0 && tenant.waiting + entrant.cost > most) {
    *refusal = Refusal::kTenantQueueFull;
    return absl::ResourceExhaustedError(absl::StrCat("the queue of tenant ", Quoted(entrant.tenant),
                                                     " is full: ", tenant.running, " of its ", options_.unit,
                                                     " run and ", tenant.waiting, " wait, at most ", most,
                                                     " may (", options_.waiting_flag, "-per-tenant)"));
  }
  if (waiting_ + entrant.cost > options_.max_waiting) {
    *refusal = Refusal::kQueueFull;
    return absl::ResourceExhaustedError(
        absl::StrCat("the gateway's queue is full: ", running_, " ", options_.unit, " run and ", waiting_,
                     " wait, at most ", options_.max_waiting, " may (", options_.waiting_flag, ")"));
  }
  return absl::OkStatus();
}

double AdmissionLane::Ahead(const Books& tenant, const Key& key) const {
  double own = InLine(tenant) - tenant.waiting;
  for (const auto& [at, party] : parties_) {
    if (party.tenant != &tenant) continue;
    for (const auto& [other, cost] : party.queue) {
      if (!(other < key)) break;
      own += cost;
    }
  }
  double others = 0;
  double in_line = 0;
  for (const auto& [name, books] : tenants_) {
    in_line += InLine(books);
    others += &books != &tenant && InLine(books) > 0 ? 1 : 0;
  }
  // Tenants take turns.
  return std::min(in_line, own * (1 + others) + others);
}

Status AdmissionLane::Late(double ahead, absl::Duration left) const {
  const auto rounded = [](absl::Duration d) {
    return absl::FormatDuration(absl::Trunc(std::max(d, absl::ZeroDuration()), absl::Milliseconds(10)));
  };
  return absl::ResourceExhaustedError(
      absl::StrCat("there is not enough time left: the deadline is in ", rounded(left), ", about ",
                   static_cast<int64_t>(ahead), " ", options_.unit, " are ahead, which take about ",
                   rounded(forecast_.Wait(ahead)), ", and this one then about ", rounded(forecast_.run())));
}

AdmissionLane::Place AdmissionLane::Seat(Books* tenant, Books* connection, uint32_t cost, MonotonicTime now) {
  const bool begins = options_.max_unstarted == 0;
  tenant->last_turn = connection->last_turn = ++n_turns_;
  running_ += cost;
  unstarted_ += begins ? 0 : cost;
  for (Books* books : {tenant, connection}) {
    books->running += cost;
    books->unstarted += begins ? 0 : cost;
  }
  return {begins ? Place::State::kStarted : Place::State::kUnstarted, tenant, connection, cost, now, now};
}

void AdmissionLane::Unqueue(Party* party, std::map<Key, uint32_t>::iterator at) {
  Books* const tenant = party->tenant;
  Books* const connection = party->connection;
  const uint32_t cost = at->second;
  where_.erase(at->first.id);
  party->queue.erase(at);
  if (party->queue.empty()) parties_.erase({tenant, connection});
  waiting_ -= cost;
  tenant->waiting -= cost;
  connection->waiting -= cost;
  CloseBooks(tenant, connection);
}

}  // namespace coterie::gateway
