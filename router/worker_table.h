#ifndef COTERIE_ROUTER_WORKER_TABLE_H_
#define COTERIE_ROUTER_WORKER_TABLE_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "common/clock.h"
#include "common/digest.h"
#include "common/prefix_key.h"
#include "common/worker_protocol.h"
#include "router/row_set.h"

namespace coterie {

// What a worker is, as long as it lives.
struct WorkerTraits {
  std::string id;
  Digest base;                       // empty: it has never said who it is
  std::string numerics_class;        // equal classes give bit-identical logits
  bool batch_invariant = true;       // whatever else is in the batch
  uint32_t max_running = 1;          // sequences one step can hold
  uint32_t max_sequence_tokens = 0;  // prompt and answer of one sequence; 0: what its KV cache holds
  uint32_t kv_block_tokens = kPrefixBlockTokens;  // tokens in a block, as it says
  uint32_t kv_blocks = 0;
  uint32_t adapter_slots = 0;
  uint32_t max_mixture_members = 0;  // of one sequence; 0: it mixes nothing
  uint32_t max_gangs = 0;            // mixtures that it answers together with other workers
  bool takes_constraints = false;    // holds answers to a schema, a regex or a choice
  GateSet gates;                     // that its sequences may have
  std::vector<std::string> serves;   // name patterns (shell style) of the experts it is for; empty: all
};

// What placement asks of every worker, side by side in one array: a placement reads them all, and a message
// of a worker changes a few numbers in place. Times stand where a state ends by itself.
struct WorkerRow {
  Digest base;
  uint64_t id_hash = 0;  // of its id
  // It takes new work until then, unless it is heard again: a worker that falls silent is left out first and
  // given up later.
  MonotonicTime alive_until = MonotonicTime::InfinitePast();
  MonotonicTime ejected_until = MonotonicTime::InfinitePast();  // failed again and again of late
  bool used = false;                                            // false: nobody's row
  bool draining = false;                                        // finishes what it has, takes nothing new
  bool takes_constraints = false;
  GateSet gates;
  bool refused = false;  // of another base, tokenizer or protocol: it will never take anything

  uint32_t running = 0;   // sequences, as it said last
  uint32_t waiting = 0;   // likewise
  uint32_t assigned = 0;  // sequences this gateway has there, paused ones left out
  uint32_t max_running = 1;
  uint32_t max_sequence_tokens = 0;
  uint32_t kv_block_tokens = kPrefixBlockTokens;
  uint32_t kv_blocks_free = 0;  // with those that hold only cached prefixes: they can be had at once
  uint32_t kv_blocks_total = 0;
  uint32_t adapter_slots = 0;
  uint32_t max_mixture_members = 0;
  uint32_t max_gangs = 0;
  uint32_t adapters_resident = 0;  // as it said last
  uint32_t n_resident = 0;         // as its changes add up to
  uint32_t n_coming = 0;           // adapters believed to be on their way; see WorkerTable::Expect
  uint32_t serves = 0;             // number of its list of patterns; 0: all experts
  // Estimates; one that is not a positive number counts as 1.
  double prefill_tokens_per_second = 1000.0;
  double decode_tokens_per_second = 50.0;  // of all running sequences together
  // As measured there; where they are not above 0, PlacementOptions says what to assume.
  double load_bytes_per_second = 0;
  double answer_tokens = 0;

  bool alive(MonotonicTime now) const { return now < alive_until; }
  bool ejected(MonotonicTime now) const { return now < ejected_until; }
  // Its own count lags behind what was just submitted.
  uint32_t queued() const {
    const uint32_t known = running + waiting;
    return (known > assigned ? known : assigned) - running;
  }
};

// All workers that a gateway knows, as placement wants them: a row of numbers each, and from an adapter or a
// cached prefix to the rows that have it, so that a placement looks up what it asks for once and not once per
// worker. Not thread-safe.
class WorkerTable {
 public:
  using Row = uint32_t;
  // Bounds what one worker can make us remember: a set that outgrows its limit is forgotten and starts anew,
  // which costs placement a guess and nothing else. Of prefixes a worker may have as many as it has KV
  // blocks, within these two.
  static constexpr size_t kMaxResident = 65'536;
  static constexpr size_t kLeastMaxPrefixes = 4096;
  static constexpr size_t kMaxPrefixes = kMaxPrefixKeys;
  // Of all workers together; more are passed over. At about 40 bytes each, 640 MB.
  static constexpr size_t kMaxPrefixesInAll = size_t{1} << 24;
  static constexpr size_t kMaxComing = 64;
  static constexpr absl::Duration kComingFor = absl::Seconds(5);

  explicit WorkerTable(size_t max_prefixes_in_all = kMaxPrefixesInAll)
      : max_prefixes_in_all_(max_prefixes_in_all) {}

  // A row for a worker that has not said anything yet. Numbers of removed ones are given again.
  Row Add(std::string id);
  void Remove(Row row);

  // Sets what follows from the traits; the rest of the row stays.
  void SetTraits(Row row, const WorkerTraits& traits);
  // Numbers to change in place; those that SetTraits and the sets keep are to be read only.
  WorkerRow& at(Row row) { return rows_[row]; }
  const WorkerRow& at(Row row) const { return rows_[row]; }
  const std::string& id(Row row) const { return details_[row].id; }
  const std::string& numerics_class(Row row) const { return details_[row].numerics_class; }
  bool batch_invariant(Row row) const { return details_[row].batch_invariant; }
  // Rows are 0..size()-1; some may be unused.
  size_t size() const { return rows_.size(); }

  // --- What a worker holds ---
  void AddResident(Row row, const Digest& adapter);
  void RemoveResident(Row row, const Digest& adapter);
  bool IsResident(Row row, const Digest& adapter) const { return details_[row].resident.contains(adapter); }
  void AddPrefix(Row row, PrefixKey key);
  size_t n_prefixes() const { return n_prefixes_; }
  void RemovePrefix(Row row, PrefixKey key);
  // Notes that `adapter` is about to be loaded there, since it was just asked for. False, noting nothing,
  // when the worker has it, when it is noted already, or when the limit is reached. A note ends with the news
  // that the adapter is there, or after kComingFor: the worker dropped the hint, or could not load it.
  bool Expect(Row row, const Digest& adapter, MonotonicTime now);
  bool IsComing(Row row, const Digest& adapter, MonotonicTime now) const;
  // With the notes.
  void ForgetAdapters(Row row);
  // At most `n` of them: true when none is left. Many take a while, during which nobody can place.
  bool ForgetPrefixes(Row row, size_t n);

  // --- What a placement looks up ---
  // Null when no row has it; valid until the next change.
  const router_internal::RowSet* Holders(const Digest& adapter) const { return residents_.Find(adapter); }
  // (*blocks)[row] = how many of `keys` are cached there without a gap from the first on: a block is of use
  // only behind those before it.
  void CountWarm(std::span<const PrefixKey> keys, std::vector<uint32_t>* blocks) const;
  // Adapter slots that are, or are about to be, in use.
  uint32_t SlotsTaken(Row row, MonotonicTime now) const;
  // Lists of patterns; the numbers of rows' `serves` are from 1 to n_serves().
  size_t n_serves() const { return serves_.size(); }
  bool Serves(uint32_t number, std::string_view expert) const;

 private:
  struct Coming {
    Digest adapter;
    MonotonicTime until;
  };
  struct Details {
    std::string id;
    std::string numerics_class;
    bool batch_invariant = true;
    absl::flat_hash_set<Digest> resident;
    absl::flat_hash_set<PrefixKey> prefixes;
    std::vector<Coming> coming;
  };
  // Workers of one kind say the same list: each is matched once per placement.
  struct ServesList {
    std::vector<std::string> patterns;
    size_t n_rows = 0;  // 0: free
  };

  void SetServes(Row row, const std::vector<std::string>& patterns);
  void DropComing(Row row, const Digest& adapter);

  size_t max_prefixes_in_all_;
  std::vector<WorkerRow> rows_;
  std::vector<Details> details_;  // [rows]
  std::vector<ServesList> serves_;
  router_internal::RowIndex<Digest> residents_;
  router_internal::RowIndex<PrefixKey> prefixes_;
  size_t n_prefixes_ = 0;  // of all rows, each key once for each row
};

}  // namespace coterie

#endif  // COTERIE_ROUTER_WORKER_TABLE_H_
