#ifndef COTERIE_WORKER_SERVICE_STATE_TRACKER_H_
#define COTERIE_WORKER_SERVICE_STATE_TRACKER_H_

#include <cstdint>
#include <deque>
#include <span>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "common/digest.h"
#include "coterie/v1/worker.pb.h"
#include "worker/engine/request.h"

namespace coterie::worker {

// What is resident and which prefixes are cached, by the engine's events. Not thread-safe.
class StateTracker {
 public:
  static constexpr size_t kMaxPrefixes = 4096;  // the newest; worker.proto promises no more

  void Apply(std::span<const ResidencyEvent> residency, std::span<const PrefixEvent> prefixes);

  const absl::flat_hash_set<Digest>& residents() const { return residents_; }
  bool HasPrefix(uint64_t key) const { return prefixes_.contains(key); }
  const absl::flat_hash_map<uint64_t, uint64_t>& prefixes() const { return prefixes_; }
  uint64_t residents_version() const { return residents_version_; }
  uint64_t prefixes_version() const { return prefixes_version_; }

 private:
  absl::flat_hash_set<Digest> residents_;
  absl::flat_hash_map<uint64_t, uint64_t> prefixes_;  // key -> number of its latest addition
  std::deque<std::pair<uint64_t, uint64_t>>
      additions_;  // (number, key), oldest first; stale ones are skipped
  uint64_t n_additions_ = 0;
  uint64_t residents_version_ = 1;
  uint64_t prefixes_version_ = 1;
};

// What one gateway has been told, and how to tell it the rest. Not thread-safe.
class StateReport {
 public:
  // The gateway knows nothing again.
  void Reset();
  bool ResidentsChanged(const StateTracker& tracker) const {
    return residents_version_ != tracker.residents_version();
  }
  bool PrefixesChanged(const StateTracker& tracker) const {
    return prefixes_version_ != tracker.prefixes_version();
  }
  // Adds the changes since the last call to `state`; those of prefixes only if `with_prefixes`.
  void Fill(const StateTracker& tracker, bool with_prefixes, v1::WorkerState* state);

 private:
  absl::flat_hash_set<Digest> told_residents_;
  absl::flat_hash_set<uint64_t> told_prefixes_;
  uint64_t residents_version_ = 0;
  uint64_t prefixes_version_ = 0;
};

}  // namespace coterie::worker

#endif  // COTERIE_WORKER_SERVICE_STATE_TRACKER_H_
