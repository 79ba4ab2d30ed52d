#ifndef COTERIE_GATEWAY_UPSTREAM_WORKER_STATE_H_
#define COTERIE_GATEWAY_UPSTREAM_WORKER_STATE_H_

#include <cstdint>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/time/time.h"
#include "common/clock.h"
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
  static constexpr size_t kMaxComing = 64;
  static constexpr absl::Duration kComingFor = absl::Seconds(5);

  void Reset() { *this = WorkerStateFold(); }
  void Apply(const WorkerStateUpdate& update);

  // Notes that `adapter` is about to be loaded there, since it was just asked for. False, noting nothing,
  // when the worker has it, when it is noted already, or when the limit is reached. A note ends with the news
  // that the adapter is there, or after kComingFor: the worker dropped the hint, or could not load it.
  bool Expect(const Digest& adapter, MonotonicTime now);

  // The view as `request` needs it: of adapters and prefixes only its own are looked up (of the rest the
  // numbers alone are told), so that a request never copies the whole sets. `assigned` is how many sequences
  // this gateway has there, those that are paused left out: state messages lag behind what was just
  // submitted.
  WorkerView View(const WorkerIdentity& identity, const PlacementRequest& request, size_t assigned,
                  MonotonicTime now) const;

  const WorkerStateUpdate& levels() const { return levels_; }
  bool Holds(const Digest& adapter) const { return resident_.contains(adapter); }

 private:
  // Adapter slots that are, or are about to be, in use.
  uint32_t SlotsTaken(MonotonicTime now) const;

  WorkerStateUpdate levels_;  // change lists empty
  double decode_rate_ = 0;    // the last one measured under load
  absl::flat_hash_set<Digest> resident_;
  absl::flat_hash_set<uint64_t> prefixes_;
  absl::flat_hash_map<Digest, MonotonicTime> coming_;  // until when each is believed to be on its way
};

}  // namespace coterie::gateway

#endif  // COTERIE_GATEWAY_UPSTREAM_WORKER_STATE_H_
