#ifndef COTERIE_GATEWAY_UPSTREAM_WORKER_INFO_H_
#define COTERIE_GATEWAY_UPSTREAM_WORKER_INFO_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "common/digest.h"
#include "common/gate.h"

namespace coterie::gateway {

// As coterie.v1.WorkerHealth.
enum class WorkerHealth {
  kConnecting = 1,
  kReady = 2,
  kSuspect = 3,
  kLost = 4,
  kDraining = 5,
  kRefused = 6,
};
// "ready" for kReady: in metrics and pages.
const char* NameOf(WorkerHealth health);

// What a worker says of itself in its Hello.
struct WorkerIdentity {
  uint32_t protocol_version = 0;
  std::string worker_id;
  std::string incarnation;
  Digest base;
  Digest tokenizer;
  std::string numerics_class;
  bool batch_invariant = true;  // its tokens depend on nothing but their own sequence
  std::string device;
  std::string device_name;  // for people
  uint32_t max_sequence_tokens = 0;
  uint32_t kv_block_tokens = 0;
  uint32_t kv_blocks = 0;
  uint32_t adapter_slots = 0;
  uint32_t max_mixture_members = 0;  // 0: it mixes nothing
  uint32_t max_gangs = 0;            // 0: it answers nothing together with other workers
  bool takes_constraints = false;
  GateSet gates;  // that its sequences may have
  uint32_t max_waiting = 0;
  uint32_t max_running = 0;
  uint32_t reattach_grace_ms = 0;
  std::vector<std::string> serves;
  std::vector<int32_t> end_token_ids;  // ascending; empty: it does not say
};

// One WorkerState message: levels, and changes of the two sets.
struct WorkerStateUpdate {
  uint32_t running = 0;
  uint32_t waiting = 0;
  uint32_t kv_blocks_used = 0;
  bool draining = false;
  bool device_lost = false;  // it leaves, and not as planned
  std::vector<Digest> resident_added;
  std::vector<Digest> resident_removed;
  std::vector<uint64_t> prefixes_added;
  std::vector<uint64_t> prefixes_removed;
  bool prefixes_reset = false;  // those told before are void
  // As the worker measures them; 0: it does not say. Not to be trusted: see MeasuredRate.
  double tokens_per_second = 0;
  double prefill_tokens_per_second = 0;
  double load_bytes_per_second = 0;
  double answer_tokens = 0;
  uint64_t bytes_between_workers = 0;
  uint32_t adapters_resident = 0;
  uint64_t preemptions = 0;
  uint32_t places = 0;  // sequences that this gateway may have there; 0: it does not say
};

// One line of ClusterService.Status.
struct WorkerReport {
  std::string address;
  WorkerHealth health = WorkerHealth::kConnecting;
  std::string message;
  WorkerIdentity identity;     // of the last Hello
  WorkerStateUpdate state;     // the last levels; its change lists are empty
  absl::Duration ejected_for;  // above zero: it failed again and again (OutlierWatch)
  uint64_t ejections = 0;      // since the gateway started
};

}  // namespace coterie::gateway

#endif  // COTERIE_GATEWAY_UPSTREAM_WORKER_INFO_H_
