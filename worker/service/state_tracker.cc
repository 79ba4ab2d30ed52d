#include "worker/service/state_tracker.h"

namespace coterie::worker {

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
      prefixes_[event.key] = ++n_additions_;
      additions_.emplace_back(n_additions_, event.key);
    } else {
      prefixes_.erase(event.key);
    }
    ++prefixes_version_;
  }
  // Entries of keys that are gone or were added again later are skipped; both containers stay bounded.
  while (!additions_.empty()) {
    const auto [number, key] = additions_.front();
    auto found = prefixes_.find(key);
    const bool stale = found == prefixes_.end() || found->second != number;
    if (!stale && prefixes_.size() <= kMaxPrefixes) break;
    if (!stale) prefixes_.erase(found);
    additions_.pop_front();
  }
  // Stale entries behind a living one: rebuilt when they are the most.
  if (additions_.size() > 4 * kMaxPrefixes) {
    std::erase_if(additions_, [this](const auto& addition) {
      auto found = prefixes_.find(addition.second);
      return found == prefixes_.end() || found->second != addition.first;
    });
  }
}

void StateReport::Reset() {
  told_residents_.clear();
  told_prefixes_.clear();
  residents_version_ = 0;
  prefixes_version_ = 0;
}

void StateReport::Fill(const StateTracker& tracker, bool with_prefixes, v1::WorkerState* state) {
  if (ResidentsChanged(tracker)) {
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
  if (with_prefixes && PrefixesChanged(tracker)) {
    prefixes_version_ = tracker.prefixes_version();
    for (auto told = told_prefixes_.begin(); told != told_prefixes_.end();) {
      auto here = told++;
      if (tracker.HasPrefix(*here)) continue;
      state->add_prefixes_removed(*here);
      told_prefixes_.erase(here);
    }
    for (const auto& [key, number] : tracker.prefixes()) {
      if (told_prefixes_.insert(key).second) state->add_prefixes_added(key);
    }
  }
}

}  // namespace coterie::worker
