#ifndef COTERIE_TESTS_ROUTER_PLACEMENT_REFERENCE_H_
#define COTERIE_TESTS_ROUTER_PLACEMENT_REFERENCE_H_

#include <span>
#include <string>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "router/placement.h"

// Placement written as plainly as it can be: of every worker a view with its own sets and strings, words for
// each, one sort. What router/placement decides over its table must be this, to the last bit of a cost.
namespace coterie::reference {

// What one request sees of one worker.
struct WorkerView {
  std::string id;
  bool alive = true;
  bool draining = false;
  bool refused = false;
  bool ejected = false;
  Digest base;
  std::string numerics_class;
  uint32_t running = 0;
  uint32_t waiting = 0;
  uint32_t max_running = 1;
  uint32_t max_sequence_tokens = 0;
  uint32_t kv_block_tokens = 16;
  uint32_t kv_blocks_free = 0;
  uint32_t kv_blocks_total = 0;
  uint32_t adapter_slots_total = 0;
  uint32_t max_mixture_members = 0;
  bool takes_constraints = false;
  uint32_t adapter_slots_taken = 0;
  absl::flat_hash_set<Digest> resident;  // of the request's adapters
  absl::flat_hash_set<Digest> loading;   // likewise, on their way
  size_t warm_blocks = 0;                // of the request's prompt, from the first on
  absl::flat_hash_set<std::string> serves;
  double prefill_tokens_per_second = 1000.0;
  double decode_tokens_per_second = 50.0;
  double load_bytes_per_second = 0;  // as measured; not above 0: the options' assumption
  double answer_tokens = 0;          // likewise
};

struct Ranked {
  size_t worker = 0;  // position in the span of views
  bool fit = false;
  uint32_t tier = 0;
  double cost_seconds = 0;
  std::string words;  // what the cost is made of, or why the worker is unfit
};

struct Placement {
  std::string worker_id;
  double cost_seconds = 0;
  bool numerics_class_changed = false;
  std::string reason;
  std::vector<Ranked> ranking;  // the chosen one, the other fit ones by cost, then unfit ones
};

StatusOr<Placement> Place(const PlacementOptions& options, const PlacementRequest& request,
                          std::span<const WorkerView> workers);

}  // namespace coterie::reference

#endif  // COTERIE_TESTS_ROUTER_PLACEMENT_REFERENCE_H_
