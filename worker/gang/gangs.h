#ifndef COTERIE_WORKER_GANG_GANGS_H_
#define COTERIE_WORKER_GANG_GANGS_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "common/mutex.h"
#include "worker/engine/engine.h"
#include "worker/engine/output_batch.h"
#include "worker/gang/gang_member.h"

namespace coterie {

// The gangs that this worker is in. Thread-safe.
class Gangs {
 public:
  // Borrows them. InvalidArgument naming the option out of range.
  Gangs(const GangOptions& options, Engine* engine, GangMeeting* meeting, PeerTraffic* traffic)
      : options_(options), engine_(engine), meeting_(meeting), traffic_(traffic) {}

  // Before the engine is given the sequence, whose id is set. ResourceExhausted: this worker is in as many
  // gangs as it may.
  Status Start(const Sequence& sequence);
  // The engine did not take it after all.
  void Drop(uint64_t engine_id);
  // What the engine says of any sequence.
  void OnEvent(const OutputEvent& event);

  int max_gangs() const { return options_.max_gangs; }
  int n_gangs() const { return n_gangs_.load(std::memory_order_relaxed); }

 private:
  // Those whose threads are done.
  std::vector<std::unique_ptr<GangMember>> TakeDone() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const GangOptions options_;
  Engine* const engine_;
  GangMeeting* const meeting_;
  PeerTraffic* const traffic_;
  std::atomic<int> n_gangs_{0};
  Mutex mutex_;
  absl::flat_hash_map<uint64_t, std::unique_ptr<GangMember>> members_
      ABSL_GUARDED_BY(mutex_);                                              // by engine id
  std::vector<std::unique_ptr<GangMember>> ended_ ABSL_GUARDED_BY(mutex_);  // whose threads may not be done
};

}  // namespace coterie

#endif  // COTERIE_WORKER_GANG_GANGS_H_
