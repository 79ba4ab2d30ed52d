#include "gateway/upstream/worker_state.h"

#include <fnmatch.h>

#include <algorithm>

#include "common/clock.h"

namespace coterie::gateway {
namespace {

bool Matches(const std::vector<std::string>& patterns, const std::string& name) {
  return std::any_of(patterns.begin(), patterns.end(), [&](const std::string& pattern) {
    return fnmatch(pattern.c_str(), name.c_str(), 0) == 0;
  });
}

}  // namespace

void WorkerStateFold::Apply(const WorkerStateUpdate& update) {
  levels_ = update;
  levels_.resident_added.clear();
  levels_.resident_removed.clear();
  levels_.prefixes_added.clear();
  levels_.prefixes_removed.clear();
  if (update.running > 0 && update.tokens_per_second > 0) decode_rate_ = update.tokens_per_second;
  for (const Digest& digest : update.resident_removed) resident_.erase(digest);
  for (const Digest& digest : update.resident_added) {
    resident_.insert(digest);
    coming_.erase(digest);
  }
  if (resident_.size() > kMaxResident) resident_.clear();
  for (uint64_t key : update.prefixes_removed) prefixes_.erase(key);
  for (uint64_t key : update.prefixes_added) prefixes_.insert(key);
  if (prefixes_.size() > kMaxPrefixes) prefixes_.clear();
}

bool WorkerStateFold::Expect(const Digest& adapter, MonotonicTime now) {
  if (resident_.contains(adapter)) return false;
  absl::erase_if(coming_, [now](const auto& entry) { return entry.second <= now; });
  return coming_.size() < kMaxComing && coming_.try_emplace(adapter, now + kComingFor).second;
}

uint32_t WorkerStateFold::SlotsTaken(MonotonicTime now) const {
  const auto n_coming = static_cast<size_t>(
      std::count_if(coming_.begin(), coming_.end(), [now](const auto& entry) { return entry.second > now; }));
  // The worker's own count, or where it is larger what its changes add up to.
  const size_t n_there = std::max<size_t>(levels_.adapters_resident, resident_.size());
  return static_cast<uint32_t>(n_there + n_coming);
}

WorkerView WorkerStateFold::View(const WorkerIdentity& identity, const PlacementRequest& request,
                                 size_t assigned, MonotonicTime now) const {
  WorkerView view;
  view.id = identity.worker_id;
  view.draining = levels_.draining;
  view.base = identity.base;
  view.numerics_class = identity.numerics_class;
  view.running = levels_.running;
  const uint32_t known = levels_.running + levels_.waiting;
  view.waiting = std::max<uint32_t>(known, static_cast<uint32_t>(assigned)) - levels_.running;
  view.max_running = std::max<uint32_t>(1, identity.max_running);
  view.max_sequence_tokens = identity.max_sequence_tokens;
  if (identity.kv_block_tokens > 0) view.kv_block_tokens = identity.kv_block_tokens;
  view.kv_blocks_total = identity.kv_blocks;
  view.kv_blocks_free = identity.kv_blocks - std::min(identity.kv_blocks, levels_.kv_blocks_used);
  view.adapter_slots_total = identity.adapter_slots;
  view.adapter_slots_taken = SlotsTaken(now);
  if (decode_rate_ > 0) view.decode_tokens_per_second = decode_rate_;
  for (const PlacementRequest::Adapter& adapter : request.adapters) {
    if (resident_.contains(adapter.digest)) {
      view.resident.insert(adapter.digest);
    } else if (const auto it = coming_.find(adapter.digest); it != coming_.end() && it->second > now) {
      view.loading.insert(adapter.digest);
    }
  }
  // A block is of use only behind those before it, so the look-ups end at the first cold one.
  while (view.warm_blocks < request.prefix_keys.size() &&
         prefixes_.contains(request.prefix_keys[view.warm_blocks])) {
    ++view.warm_blocks;
  }
  if (!identity.serves.empty()) {
    for (const PlacementRequest::Adapter& adapter : request.adapters) {
      if (Matches(identity.serves, adapter.name)) view.serves.insert(adapter.name);
    }
    // Patterns that match nothing asked for are not "all of them", which an empty set would mean.
    if (view.serves.empty()) view.serves.insert(identity.serves.begin(), identity.serves.end());
  }
  return view;
}

}  // namespace coterie::gateway
