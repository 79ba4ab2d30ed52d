#ifndef COTERIE_GATEWAY_UPSTREAM_WORKER_STATE_H_
#define COTERIE_GATEWAY_UPSTREAM_WORKER_STATE_H_

#include <cstdint>

#include "absl/container/flat_hash_set.h"
#include "gateway/upstream/worker_info.h"
#include "router/placement.h"

namespace coterie::gateway {

// Folds a worker's state messages into what placement asks for. Not thread-safe: the link's lock guards it.
class WorkerStateFold {
 public:
  // Bounds what a worker can make us remember: a set that outgrows its limit is forgotten and starts anew,
  // which costs placement a guess and nothing else.
  static constexpr size_t kMaxResident = 65'536;
  static constexpr size_t kMaxPrefixes = 65'536;

  void Reset() { *this = WorkerStateFold(); }
  void Apply(const WorkerStateUpdate& update);

  // The part of the view that matters to `request`: only its own adapters and prefixes are looked up, so that
  // a request never copies the whole sets. `assigned` is how many sequences this gateway has there: state
  // messages lag behind what was just submitted.
  WorkerView View(const WorkerIdentity& identity, const PlacementRequest& request, size_t assigned) const;

  const WorkerStateUpdate& levels() const { return levels_; }
  bool Holds(const Digest& adapter) const { return resident_.contains(adapter); }

 private:
  WorkerStateUpdate levels_;  // change lists empty
  double decode_rate_ = 0;    // the last one measured under load
  absl::flat_hash_set<Digest> resident_;
  absl::flat_hash_set<uint64_t> prefixes_;
};

}  // namespace coterie::gateway

#endif  // COTERIE_GATEWAY_UPSTREAM_WORKER_STATE_H_
