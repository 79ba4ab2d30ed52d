#ifndef COTERIE_WORKER_SERVICE_GATEWAY_SESSION_H_
#define COTERIE_WORKER_SERVICE_GATEWAY_SESSION_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/time/time.h"
#include "common/clock.h"
#include "coterie/v1/worker.pb.h"
#include "worker/service/attach_stream.h"
#include "worker/service/sequence_log.h"
#include "worker/service/state_tracker.h"

namespace coterie::worker {

// Everything the worker keeps for one gateway: its sequences, and what of it has been sent. Outlives the
// gateway's connections by the grace time. Not thread-safe: the service's mutex guards it.
class GatewaySession {
 public:
  // Answers and refusals that may wait to be sent. A gateway whose connection takes nothing and which goes on
  // asking would otherwise fill the memory.
  static constexpr size_t kMaxUnsent = 16'384;

  explicit GatewaySession(std::string id) : id_(std::move(id)) {}

  const std::string& id() const { return id_; }
  std::string stream_key;  // what its later streams must show
  MonotonicTime attached_at;
  bool has_asked = false;  // it has submitted something

  // --- The connection ---
  AttachStream* stream = nullptr;  // borrowed; null while the gateway is away
  absl::Duration heartbeat_interval;
  absl::Duration silence_timeout;
  MonotonicTime last_heard;
  MonotonicTime next_heartbeat;
  MonotonicTime away_since = MonotonicTime::InfiniteFuture();
  // Since when a new connection has not sent its Reattach.
  MonotonicTime suspended_since = MonotonicTime::InfiniteFuture();
  uint64_t n_heartbeats = 0;
  StateReport report;
  MonotonicTime prefixes_told_at = MonotonicTime::InfinitePast();
  uint32_t places = 0;  // as DividePlaces last said; 0: not yet

  // --- Its sequences ---
  SequenceLog* Find(uint64_t sequence_id);
  // The id must be new.
  SequenceLog* Insert(std::unique_ptr<SequenceLog> log);
  void Erase(uint64_t sequence_id);
  const absl::flat_hash_map<uint64_t, std::unique_ptr<SequenceLog>>& sequences() const { return sequences_; }
  size_t n_unfinished() const;

  // `log` has something new.
  void Touch(SequenceLog* log);
  // An answer to a sequence id that has no log: it ends with `status`.
  void Refuse(uint64_t sequence_id, Status status);
  // No output is sent until Resume or the grace time's end.
  void Suspend(MonotonicTime now);

  bool has_output() const { return n_unsent() > 0; }
  size_t n_unsent() const { return ready_.size() + refused_.size(); }
  // Moves unsent output into `step`, up to a bound; the rest goes with the next one.
  void TakeOutput(v1::Step* step);

  // Forgets answers that ended before `horizon`, and the oldest ended ones above the bounds (number, bytes).
  void DropFinished(MonotonicTime horizon, std::vector<uint64_t>* dropped_engine_ids);

 private:
  const std::string id_;
  absl::flat_hash_map<uint64_t, std::unique_ptr<SequenceLog>> sequences_;
  std::vector<uint64_t> ready_;  // ids with something to send, in order
  std::vector<std::pair<uint64_t, Status>> refused_;
};

}  // namespace coterie::worker

#endif  // COTERIE_WORKER_SERVICE_GATEWAY_SESSION_H_
