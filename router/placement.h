#ifndef COTERIE_ROUTER_PLACEMENT_H_
#define COTERIE_ROUTER_PLACEMENT_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "common/digest.h"
#include "common/status.h"

namespace coterie {

// The first eight bytes of a KV prefix key (a hash chain over base, adapter and block tokens): a hint where
// blocks are warm, so that a collision costs time and never correctness.
using PrefixKey = uint64_t;

// What the gateway knows of one worker, from its last state message. Plain data.
struct WorkerView {
  std::string id;
  bool alive = true;           // its heartbeats arrive and its stream is up
  bool draining = false;       // finishes what it has, takes nothing new
  bool refused = false;        // of another base, tokenizer or protocol: it will never take anything
  bool ejected = false;        // failed again and again of late: only where nothing better is left
  Digest base;                 // empty: it has never said who it is
  std::string numerics_class;  // equal classes give bit-identical logits

  uint32_t running = 0;  // sequences
  uint32_t waiting = 0;
  uint32_t max_running = 1;          // sequences one step can hold
  uint32_t max_sequence_tokens = 0;  // prompt and answer of one sequence; 0: what its KV cache holds
  uint32_t kv_block_tokens = 16;     // tokens in a block
  uint32_t kv_blocks_free = 0;       // with those that hold only cached prefixes: they can be had at once
  uint32_t kv_blocks_total = 0;

  uint32_t adapter_slots_total = 0;
  uint32_t adapter_slots_taken = 0;      // by whichever adapters, those on their way too
  absl::flat_hash_set<Digest> resident;  // of the request's adapters: in device slots
  absl::flat_hash_set<Digest> loading;   // likewise, on their way
  size_t warm_blocks = 0;  // whole blocks of the request's prompt in its cache, from the first on
  absl::flat_hash_set<std::string> serves;  // experts this worker is for; empty: all of them
  // Estimates; one that is not a positive number counts as 1.
  double prefill_tokens_per_second = 1000.0;
  double decode_tokens_per_second = 50.0;  // of all running sequences together
};

struct PlacementRequest {
  struct Adapter {
    std::string name;
    Digest digest;
    uint64_t n_bytes = 0;  // what a cold load moves
  };
  std::vector<Adapter> adapters;  // of the plan; empty for the base
  Digest base;                    // only workers with this base are fit
  // Of the prompt's blocks of kPrefixBlockTokens, the whole ones, in order.
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
  struct Ranked {
    std::string worker;
    double cost_seconds = 0;  // estimated time to first token
    bool fit = false;
    std::string words;  // what the cost is made of, or why the worker is unfit
  };
  size_t worker = 0;  // position in the span of views
  std::string worker_id;
  double cost_seconds = 0;
  bool numerics_class_changed = false;  // a resumed answer may differ from here on, and must say so
  std::string reason;                   // a sentence a person can read
  std::vector<Ranked> ranking;          // fit workers by cost, then unfit ones
};

struct PlacementOptions {
  double load_bytes_per_second = 200e6;  // file -> device slot, conservatively a disk's
  double load_latency_seconds = 0.005;   // per cold adapter, whatever its size
  double eviction_seconds = 0.02;   // what reloading somebody else's adapter costs, when every slot is taken
  double mean_answer_tokens = 128;  // what a running or waiting sequence still needs
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
// evenly, and a worker that comes or goes moves only its own share. Pure and thread-safe; the answer depends
// on the inputs alone, not on the order of the workers.
class Placer {
 public:
  // InvalidArgument naming the option, its value and the limit.
  static StatusOr<Placer> Create(const PlacementOptions& options);

  // When none is fit: InvalidArgument for a prompt that no worker has room for, FailedPrecondition for more
  // adapters than any has slots, naming value and limit; these need no second try. Otherwise Unavailable,
  // saying for each worker why it was unfit.
  StatusOr<Placement> Place(const PlacementRequest& request, std::span<const WorkerView> workers) const;

 private:
  explicit Placer(const PlacementOptions& options) : options_(options) {}

  PlacementOptions options_;
};

}  // namespace coterie

#endif  // COTERIE_ROUTER_PLACEMENT_H_
