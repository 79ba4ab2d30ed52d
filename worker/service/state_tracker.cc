#include "worker/service/state_tracker.h"

#include <algorithm>

#include "common/check.h"

namespace coterie::worker {

StateTracker::StateTracker(size_t max_prefixes) : max_prefixes_(max_prefixes) {
  COTERIE_CHECK(max_prefixes_ >= 1 && max_prefixes_ <= kMaxPrefixes) << max_prefixes_ << " prefixes";
}

void StateTracker::Apply(std::span<const ResidencyEvent> residency, std::span<const PrefixEvent> prefixes) {
  for (const ResidencyEvent& event : residency) {
    if (event.added) {
      residents_.insert(event.digest);
    } else {
      residents_.erase(event.digest);
    }
    ++residents_version_;
  }
  for (const PrefixEvent& event : prefixes) {
    if (event.added) {
      Add(event.key);
    } else {
      Remove(event.key);
    }
  }
  CompactAdditions();
}

void StateTracker::Add(uint64_t key) {
  const auto [entry, is_new] = prefixes_.try_emplace(key, 0);
  entry->second = ++n_additions_;
  additions_.emplace_back(n_additions_, key);
  if (is_new) Note(key, true);
  while (prefixes_.size() > max_prefixes_) {
    const auto oldest = additions_.front();
    additions_.pop_front();
    if (!IsStale({oldest.first, oldest.second})) Remove(oldest.second);
  }
}

void StateTracker::Remove(uint64_t key) {
  if (prefixes_.erase(key) > 0) Note(key, false);
}

void StateTracker::Note(uint64_t key, bool added) {
  changes_.push_back({key, added});
  ++n_changes_;
  if (changes_.size() > std::max(kMinChangesKept, 2 * max_prefixes_)) changes_.pop_front();
}

bool StateTracker::IsStale(const std::pair<uint64_t, uint64_t>& addition) const {
  const auto found = prefixes_.find(addition.second);
  return found == prefixes_.end() || found->second != addition.first;
}

void StateTracker::CompactAdditions() {
  while (!additions_.empty() && IsStale(additions_.front())) additions_.pop_front();
  // Stale ones behind a living one: dropped when they are the most.
  if (additions_.size() > 4096 + 2 * prefixes_.size()) {
    std::erase_if(additions_, [this](const auto& addition) { return IsStale(addition); });
  }
}

std::vector<uint64_t> StateTracker::Prefixes() const {
  std::vector<uint64_t> keys;
  keys.reserve(prefixes_.size());
  for (const auto& addition : additions_) {
    if (!IsStale(addition)) keys.push_back(addition.second);
  }
  return keys;
}

void StateReport::Reset() { *this = StateReport(); }

void StateReport::Fill(const StateTracker& tracker, bool with_prefixes, v1::WorkerState* state) {
  if (ResidentsChanged(tracker)) FillResidents(tracker, state);
  if (with_prefixes && PrefixesChanged(tracker)) FillPrefixes(tracker, state);
}

void StateReport::FillResidents(const StateTracker& tracker, v1::WorkerState* state) {
  residents_version_ = tracker.residents_version();
  for (auto told = told_residents_.begin(); told != told_residents_.end();) {
    auto here = told++;
    if (tracker.residents().contains(*here)) continue;
    state->add_resident_removed(here->ToBytes());
    told_residents_.erase(here);
  }
  for (const Digest& digest : tracker.residents()) {
    if (told_residents_.insert(digest).second) state->add_resident_added(digest.ToBytes());
  }
}

void StateReport::FillPrefixes(const StateTracker& tracker, v1::WorkerState* state) {
  if (!knows_prefixes_ || next_change_ < tracker.first_change()) {
    untold_ = tracker.Prefixes();
    next_change_ = tracker.next_change();
    knows_prefixes_ = true;
    // On a new stream the gateway begins with nothing anyway.
    if (told_any_) state->set_prefixes_reset(true);
  }
  size_t room = kMaxPrefixesAtOnce;
  for (; !untold_.empty() && room > 0; --room) {
    state->add_prefixes_added(untold_.back());
    untold_.pop_back();
  }
  if (!untold_.empty()) {
    told_any_ = true;
    return;
  }
  // The net change of each key: its changes alternate, so the first one says how it stood before them and the
  // last one how it stands after.
  absl::flat_hash_map<uint64_t, std::pair<bool, bool>> net;  // key -> first, last
  for (; next_change_ < tracker.next_change() && room > 0; ++next_change_, --room) {
    const StateTracker::PrefixChange& change = tracker.change(next_change_);
    net.try_emplace(change.key, change.added, change.added).first->second.second = change.added;
  }
  for (const auto& [key, change] : net) {
    if (change.first != change.second) continue;  // as before
    if (change.second) {
      state->add_prefixes_added(key);
    } else {
      state->add_prefixes_removed(key);
    }
  }
  told_any_ |= state->prefixes_added_size() > 0;
}

}  // namespace coterie::worker
