#ifndef COTERIE_WORKER_SERVICE_STATE_TRACKER_H_
#define COTERIE_WORKER_SERVICE_STATE_TRACKER_H_

#include <cstdint>
#include <deque>
#include <span>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "common/digest.h"
#include "common/worker_protocol.h"
#include "coterie/v1/worker.pb.h"
#include "worker/engine/output_batch.h"

namespace coterie::worker {

// What is resident and which prefixes are cached, by the engine's events. Changes of prefixes are kept for a
// while, numbered from the first on, so that each gateway is told those it has not heard yet and nobody walks
// all keys. Not thread-safe.
class StateTracker {
 public:
  // However large the cache: so many keys take a gateway about 10 MB.
  static constexpr size_t kMaxPrefixes = kMaxPrefixKeys;
  // A gateway that has not heard the oldest change that is kept is told everything again. So many are a few
  // seconds of a busy device; their least is a few messages.
  static constexpr size_t kMinChangesKept = 16'384;

  struct PrefixChange {
    uint64_t key = 0;
    bool added = false;
  };

  // Of more than `max_prefixes` (1 to kMaxPrefixes; the blocks of the cache) the newest are known.
  explicit StateTracker(size_t max_prefixes = kMaxPrefixes);

  void Apply(std::span<const ResidencyEvent> residency, std::span<const PrefixEvent> prefixes);

  const absl::flat_hash_set<Digest>& residents() const { return residents_; }
  uint64_t residents_version() const { return residents_version_; }

  bool HasPrefix(uint64_t key) const { return prefixes_.contains(key); }
  size_t n_prefixes() const { return prefixes_.size(); }
  // All of them, the newest last.
  std::vector<uint64_t> Prefixes() const;
  // Changes [first_change(), next_change()) are kept.
  uint64_t first_change() const { return next_change() - changes_.size(); }
  uint64_t next_change() const { return n_changes_; }
  const PrefixChange& change(uint64_t number) const { return changes_[number - first_change()]; }

 private:
  void Add(uint64_t key);
  void Remove(uint64_t key);
  void Note(uint64_t key, bool added);
  // Drops stale entries of additions_.
  void CompactAdditions();
  bool IsStale(const std::pair<uint64_t, uint64_t>& addition) const;

  const size_t max_prefixes_;
  absl::flat_hash_set<Digest> residents_;
  uint64_t residents_version_ = 1;
  absl::flat_hash_map<uint64_t, uint64_t> prefixes_;     // key -> number of its addition
  std::deque<std::pair<uint64_t, uint64_t>> additions_;  // (number, key), oldest first; some are stale
  uint64_t n_additions_ = 0;
  std::deque<PrefixChange> changes_;  // of one key in turn: added, removed, added, ...
  uint64_t n_changes_ = 0;
};

// What one gateway has been told, and how to tell it the rest. Not thread-safe.
class StateReport {
 public:
  // Of prefixes in one message: 32 KB, and a tenth of a millisecond to gather.
  static constexpr size_t kMaxPrefixesAtOnce = 4096;

  // The gateway knows nothing again.
  void Reset();
  bool ResidentsChanged(const StateTracker& tracker) const {
    return residents_version_ != tracker.residents_version();
  }
  bool PrefixesChanged(const StateTracker& tracker) const {
    return !knows_prefixes_ || !untold_.empty() || next_change_ != tracker.next_change();
  }
  // More is left than one message takes: the next one should come soon.
  bool IsBehind(const StateTracker& tracker) const {
    return !untold_.empty() || tracker.next_change() - next_change_ > kMaxPrefixesAtOnce;
  }
  // Adds the changes since the last call to `state`; those of prefixes only if `with_prefixes`, and at most
  // so many of them.
  void Fill(const StateTracker& tracker, bool with_prefixes, v1::WorkerState* state);

 private:
  void FillResidents(const StateTracker& tracker, v1::WorkerState* state);
  void FillPrefixes(const StateTracker& tracker, v1::WorkerState* state);

  absl::flat_hash_set<Digest> told_residents_;
  uint64_t residents_version_ = 0;
  // Every key there was when `next_change_` was set is told first, then the changes from there on.
  bool knows_prefixes_ = false;
  bool told_any_ = false;         // on this stream
  std::vector<uint64_t> untold_;  // told from its end: the newest first
  uint64_t next_change_ = 0;
};

}  // namespace coterie::worker

#endif  // COTERIE_WORKER_SERVICE_STATE_TRACKER_H_
