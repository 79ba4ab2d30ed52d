#ifndef COTERIE_ROUTER_PLACEMENT_H_
#define COTERIE_ROUTER_PLACEMENT_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "common/clock.h"
#include "common/digest.h"
#include "common/status.h"
#include "router/worker_table.h"

namespace coterie {

struct PlacementRequest {
  struct Adapter {
    std::string name;
    Digest digest;
    uint64_t n_bytes = 0;  // what a cold load moves
  };
  std::vector<Adapter> adapters;    // of the plan; empty for the base
  uint32_t n_rows = 1;              // each with KV of its own: the members of a mixture
  bool in_gang = false;             // with further members on other workers
  bool constrained = false;         // only workers that hold answers to a constraint are fit
  GateKind gate = GateKind::kNone;  // only workers that have such gates are fit
  Digest base;                      // only workers with this base are fit
  // Of the prompt's blocks of kPrefixBlockTokens, the whole ones, in order; those of the first row.
  std::span<const PrefixKey> prefix_keys;
  uint32_t n_prompt_tokens = 0;  // with what was already generated, when resuming
  uint32_t max_new_tokens = 0;
  // Resuming: the class that makes the answer go on bit for bit. Tried first; when no fit worker has it, any
  // other is taken and the placement says so. Empty: no preference.
  std::string numerics_class;
  absl::flat_hash_set<std::string> exclude;  // workers that just failed this request
  uint64_t seed = 0;  // spreads requests that have neither an adapter nor a prefix to be at home with
};

struct Placement {
  WorkerTable::Row row = 0;
  std::string worker_id;
  double cost_seconds = 0;              // estimated time to first token
  uint64_t room_tokens = 0;             // of prompt and answer that the request can have there
  bool numerics_class_changed = false;  // a resumed answer may differ from here on, and must say so
  std::string reason;                   // a sentence a person can read
};

// What one worker of a gang computes: members of the mixture, by their adapters' places in
// PlacementRequest::adapters, ascending.
struct GangPart {
  Placement placement;
  std::vector<uint32_t> members;
};

struct PlacementOptions {
  // Of a worker that has not measured it. File -> device slot, conservatively a disk's.
  double load_bytes_per_second = 200e6;
  double load_latency_seconds = 0.005;  // per cold adapter, whatever its size
  double eviction_seconds = 0.02;  // what reloading somebody else's adapter costs, when every slot is taken
  // What a running or waiting sequence still needs, where a worker has not measured its answers.
  double mean_answer_tokens = 128;
  // A full worker makes an answer this much longer than an empty one, as a fraction; batching hides the rest.
  double contention = 0.25;
  // Costs within so much of the best count as equal, and the expert's home decides: without it, noise in the
  // estimates would make every adapter resident everywhere. Below load_latency_seconds, so that a resident
  // adapter always beats a cold home.
  double stickiness_seconds = 0.004;
  // A worker whose `serves` lacks the expert is unfit (true), or only taken when no other is fit (false).
  bool strict_serves = false;
};

// Chooses the worker with the lowest estimated cost in seconds:
//   queue (sequences ahead) + contention (sequences beside) + cold load (latency, bytes / throughput, a slot
//   evicted) + prefill of the prompt tokens whose prefix blocks are not warm there.
// Workers with room for the whole answer come before those that would cut it short (where none has the room,
// those with about the most), then workers of the wanted numerics class before others, then steady ones
// before ejected ones (unless most are ejected: then it is not they that are at fault), then those that serve
// the expert. Among workers within `stickiness_seconds` of the best, rendezvous hashing (Thaler and
// Ravishankar 1998) over (expert, worker) decides: a cold expert lands on a stable home, experts spread
// evenly, and a worker that comes or goes moves only its own share. Pure; thread-safe where the
// table is; the answer depends on the inputs alone, not on the order of the workers.
class Placer {
 public:
  // InvalidArgument naming the option, its value and the limit.
  static StatusOr<Placer> Create(const PlacementOptions& options);

  // When none is fit: InvalidArgument for a prompt that no worker has room for, FailedPrecondition for more
  // adapters than any has slots, a larger mixture than any takes or a gate that none has, naming it; these
  // need no second try. Otherwise Unavailable, saying for each worker why it was unfit. Words are made for
  // what is shown alone.
  StatusOr<Placement> Place(const PlacementRequest& request, const WorkerTable& workers,
                            MonotonicTime now) const;

  // Of a mixture (n_rows members, each with one adapter) that no worker can hold alone: as few workers as a
  // greedy choice finds, the one with the most members first, each the best for its part. Errors as Place's,
  // of a member that no worker can take; all such members are added to `*homeless`.
  StatusOr<std::vector<GangPart>> PlaceGang(const PlacementRequest& request, const WorkerTable& workers,
                                            MonotonicTime now, std::vector<uint32_t>* homeless) const;

 private:
  explicit Placer(const PlacementOptions& options) : options_(options) {}

  PlacementOptions options_;
};

}  // namespace coterie

#endif  // COTERIE_ROUTER_PLACEMENT_H_
