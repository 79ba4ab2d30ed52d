#include "worker/engine/turn_queue.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "common/check.h"

namespace coterie {
namespace {

// Places, the lowest first:
//   0               the sequence that is overdue, when one is due
//   2               those that have aged: rank better than everything of higher priority
//   4               those of kMaxPriority
//   4 + 2 n         those of kMaxPriority - n
// A prompt that has begun and is not too far ahead stands one before its place (1, 3, 3 + 2 n).
constexpr int kOverduePlace = 0;
constexpr int kAgedPlace = 2;
constexpr int kPriorityPlaces = 4;

const Sequence* Better(const Sequence* a, const Sequence* b) {
  if (a == nullptr) return b;
  return b != nullptr && b->before(*a) ? b : a;
}

}  // namespace

TurnQueue::TurnQueue(const Options& options) : options_(options) {
  begun_.reserve(static_cast<size_t>(options.max_live));
  with_blocks_.reserve(static_cast<size_t>(options.max_live));
}

bool TurnQueue::Turn::before(const Turn& other) const {
  if (place != other.place) return place < other.place;
  if (tenant_served != other.tenant_served) return tenant_served < other.tenant_served;
  if (expert_served != other.expert_served) return expert_served < other.expert_served;
  return sequence->before(*other.sequence);
}

size_t TurnQueue::Level(int priority) { return static_cast<size_t>(priority + kMaxPriority); }

int TurnQueue::PlaceOf(int priority, bool aged) {
  return aged ? kAgedPlace : kPriorityPlaces + 2 * (kMaxPriority - priority);
}

// --- Who waits ---

void TurnQueue::Add(Sequence* s) {
  COTERIE_CHECK(s->tenant_share != nullptr && s->turn_group == nullptr) << "sequence " << s->request.id;
  std::unique_ptr<TurnGroup>& group = groups_[{s->tenant_share, s->expert_share, s->request.priority}];
  if (group == nullptr) {
    if (spare_.empty()) {
      group = std::make_unique<TurnGroup>();
    } else {
      group = std::move(spare_.back());
      spare_.pop_back();
    }
    *group = {.tenant = s->tenant_share, .expert = s->expert_share, .priority = s->request.priority};
  }
  // New ones come last, those that were put back first: from both ends at once.
  Sequence* forward = group->first;
  Sequence* backward = group->last;
  while (forward != nullptr && !s->before(*forward) && s->before(*backward)) {
    forward = forward->next_turn;
    backward = backward->previous_turn;
  }
  Sequence* const after = forward != nullptr && s->before(*forward) ? forward->previous_turn : backward;
  Sequence* const before = after == nullptr ? group->first : after->next_turn;
  s->turn_group = group.get();
  s->previous_turn = after;
  s->next_turn = before;
  (after == nullptr ? group->first : after->next_turn) = s;
  (before == nullptr ? group->last : before->previous_turn) = s;
  s->turn_from = step_ + 1;
  ++n_;
  if (s->n_blocks() > 0) with_blocks_.push_back(s);
}

void TurnQueue::Remove(Sequence* s) {
  TurnGroup* group = s->turn_group;
  COTERIE_CHECK(group != nullptr) << "sequence " << s->request.id << " does not wait";
  if (group->next == s) group->next = s->next_turn;
  (s->previous_turn == nullptr ? group->first : s->previous_turn->next_turn) = s->next_turn;
  (s->next_turn == nullptr ? group->last : s->next_turn->previous_turn) = s->previous_turn;
  s->turn_group = nullptr;
  s->previous_turn = s->next_turn = nullptr;
  if (overdue_ == s) overdue_ = nullptr;
  std::erase(with_blocks_, s);
  --n_;
}

Sequence* TurnQueue::LastWithBlocks(const Sequence* besides) const {
  Sequence* last = nullptr;
  for (Sequence* s : with_blocks_) {
    if (s != besides && s->n_blocks() > 0 && (last == nullptr || last->before(*s))) last = s;
  }
  return last;
}

// --- One step ---

void TurnQueue::Begin(std::span<Sequence* const> begun, MonotonicTime now, bool overdue_due) {
  ++step_;
  DropEmptyGroups();
  begun_.clear();
  n_begun_taken_ = 0;
  n_waiting_taken_ = 0;
  overdue_ = nullptr;
  for (Sequence* s : begun) begun_.push_back({.sequence = s});
  by_priority_.clear();
  uint64_t least_tenant = std::numeric_limits<uint64_t>::max();
  for (auto& [key, group] : groups_) {
    group->next = group->first;
    group->tenant_served = group->tenant->served;
    group->expert_served = group->expert->served;
    group->tenant->least_expert = std::numeric_limits<uint64_t>::max();
    least_tenant = std::min(least_tenant, group->tenant_served);
    by_priority_.push_back(group.get());
  }
  for (Turn& turn : begun_) {
    turn.tenant_served = FairShares::TenantServed(*turn.sequence);
    turn.expert_served = FairShares::ExpertServed(*turn.sequence);
    turn.sequence->tenant_share->least_expert = std::numeric_limits<uint64_t>::max();
    least_tenant = std::min(least_tenant, turn.tenant_served);
  }
  std::sort(by_priority_.begin(), by_priority_.end(),
            [](const TurnGroup* a, const TurnGroup* b) { return a->priority > b->priority; });
  FindBestRanks();
  PlaceBegun(least_tenant);
  if (overdue_due) TakeOverdue(now);
  heap_.clear();
  place_ = kOverduePlace;
  n_in_heap_from_ = 0;
}

void TurnQueue::DropEmptyGroups() {
  for (auto it = groups_.begin(); it != groups_.end();) {
    const auto here = it++;
    if (here->second->first != nullptr) continue;
    spare_.push_back(std::move(here->second));
    groups_.erase(here);
  }
}

void TurnQueue::FindBestRanks() {
  best_.fill(nullptr);
  const auto note = [this](const Sequence* s) {
    const Sequence*& best = best_[Level(s->request.priority)];
    best = Better(best, s);
  };
  for (const TurnGroup* group : by_priority_) note(group->first);
  for (const Turn& turn : begun_) note(turn.sequence);
  const Sequence* higher = nullptr;
  for (size_t level = best_.size(); level-- > 0;) {
    best_higher_[level] = higher;
    higher = Better(higher, best_[level]);
  }
}

// Its rank is better than that of everything of higher priority, of which there is something.
bool TurnQueue::HasAged(const Sequence& s) const {
  const Sequence* higher = best_higher_[Level(s.request.priority)];
  return higher != nullptr && s.before(*higher);
}

// A begun prompt must let others begin where its tenant is a turn ahead of the least served one here, or its
// expert of its tenant's least served one.
void TurnQueue::PlaceBegun(uint64_t least_tenant) {
  if (begun_.empty()) return;
  for (const TurnGroup* group : by_priority_) {
    group->tenant->least_expert = std::min(group->tenant->least_expert, group->expert_served);
  }
  for (const Turn& turn : begun_) {
    Share* tenant = turn.sequence->tenant_share;
    tenant->least_expert = std::min(tenant->least_expert, turn.expert_served);
  }
  for (Turn& turn : begun_) {
    const Sequence& s = *turn.sequence;
    const bool far_ahead = turn.tenant_served - least_tenant > options_.turn ||
                           s.tenant_share->least_expert + options_.turn < turn.expert_served;
    turn.place = PlaceOf(s.request.priority, HasAged(s)) - (far_ahead ? 0 : 1);
  }
  std::sort(begun_.begin(), begun_.end(), [](const Turn& a, const Turn& b) { return a.before(b); });
}

void TurnQueue::TakeOverdue(MonotonicTime now) {
  for (const TurnGroup* group : by_priority_) {
    Sequence* s = group->first;  // of its group the longest here
    if (now - s->arrival > options_.overdue && (overdue_ == nullptr || s->before(*overdue_))) overdue_ = s;
  }
  if (overdue_ != nullptr) overdue_->turn_group->next = overdue_->next_turn;
}

bool TurnQueue::IsInPlace(const TurnGroup& group) const {
  if (group.next == nullptr) return false;
  return PlaceOf(group.priority, place_ == kAgedPlace && HasAged(*group.next)) == place_;
}

TurnQueue::Turn TurnQueue::TurnOf(const TurnGroup& group) const {
  return {place_, group.tenant_served, group.expert_served, group.next};
}

void TurnQueue::PushGroup(TurnGroup* group) {
  heap_.push_back(group);
  std::push_heap(heap_.begin(), heap_.end(),
                 [this](const TurnGroup* a, const TurnGroup* b) { return TurnOf(*b).before(TurnOf(*a)); });
}

void TurnQueue::NextPlace() {
  const auto fill = [this](size_t begin, size_t end) {
    for (size_t i = begin; i < end; ++i) {
      if (IsInPlace(*by_priority_[i])) PushGroup(by_priority_[i]);
    }
  };
  if (place_ < kAgedPlace) {
    place_ = kAgedPlace;
    fill(0, by_priority_.size());
  }
  while (heap_.empty() && n_in_heap_from_ < by_priority_.size()) {
    const size_t begin = n_in_heap_from_;
    while (n_in_heap_from_ < by_priority_.size() &&
           by_priority_[n_in_heap_from_]->priority == by_priority_[begin]->priority) {
      ++n_in_heap_from_;
    }
    place_ = PlaceOf(by_priority_[begin]->priority, false);
    fill(begin, n_in_heap_from_);
  }
}

// To the next one that waited when the step began.
void TurnQueue::Advance(TurnGroup* group) const {
  do {
    group->next = group->next->next_turn;
  } while (group->next != nullptr && group->next->turn_from > step_);
}

Sequence* TurnQueue::Next(int n_waiting) {
  if (overdue_ != nullptr) {
    ++n_waiting_taken_;
    return std::exchange(overdue_, nullptr);
  }
  if (heap_.empty() && n_waiting_taken_ < n_waiting) NextPlace();
  const bool waits = !heap_.empty() && n_waiting_taken_ < n_waiting;
  if (n_begun_taken_ < begun_.size() && (!waits || begun_[n_begun_taken_].before(TurnOf(*heap_.front())))) {
    return begun_[n_begun_taken_++].sequence;
  }
  if (!waits) return nullptr;
  std::pop_heap(heap_.begin(), heap_.end(),
                [this](const TurnGroup* a, const TurnGroup* b) { return TurnOf(*b).before(TurnOf(*a)); });
  TurnGroup* group = heap_.back();
  heap_.pop_back();
  Sequence* s = group->next;
  Advance(group);
  if (IsInPlace(*group)) PushGroup(group);
  ++n_waiting_taken_;
  return s;
}

}  // namespace coterie
