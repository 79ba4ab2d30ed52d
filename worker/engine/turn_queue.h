#ifndef COTERIE_WORKER_ENGINE_TURN_QUEUE_H_
#define COTERIE_WORKER_ENGINE_TURN_QUEUE_H_

#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <tuple>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "common/clock.h"
#include "worker/engine/fair_shares.h"
#include "worker/engine/sequence.h"

namespace coterie {

// Sequences of one tenant, expert and priority that wait, by rank. Made and kept by TurnQueue.
struct TurnGroup {
  Share* tenant = nullptr;
  Share* expert = nullptr;
  int priority = 0;
  Sequence* first = nullptr;  // linked through the sequences
  Sequence* last = nullptr;

  // While a step is planned: who is next, and what they had been served when it began.
  Sequence* next = nullptr;
  uint64_t tenant_served = 0;
  uint64_t expert_served = 0;
};

// The sequences that wait, and the order in which they and the prompts that have begun compete for a step. By
// places, lowest first: the one that is overdue and due; those whose rank is better than that of everything
// of higher priority (they have aged); then by priority. In each place, prompts that have begun and are not
// too far ahead go first. Within that the tenant that was served least, then that tenant's expert that was
// served least, then by rank.
//
// A queue for each tenant, expert and priority: a step costs what it looks at and a little for each queue,
// however many wait. Not thread-safe; memory is taken for queues beyond the most there ever were at a time.
class TurnQueue {
 public:
  struct Options {
    absl::Duration overdue;  // waiting for so long
    uint64_t turn = 1024;    // SchedulerOptions::turn
    int max_live = 1;        // sequences
  };
  explicit TurnQueue(const Options& options);

  // It waits from now on; it must be in the shares (FairShares::Enter) until Remove. One that comes while a
  // step is planned has its turn in the next.
  void Add(Sequence* sequence);
  void Remove(Sequence* sequence);
  int size() const { return n_; }
  // The worst-ranked one that holds blocks, besides this one; null: nobody does.
  Sequence* LastWithBlocks(const Sequence* besides) const;

  // Begins a step: `begun` are the running sequences with a prompt to compute. `overdue_due`: of those that
  // wait for longer than allowed, the one of the best rank goes first of all.
  void Begin(std::span<Sequence* const> begun, MonotonicTime now, bool overdue_due);
  // The next one in order; null: none is left. At most `n_waiting` of those that wait are looked at in a
  // step. A sequence that was handed out may be removed, or put back, before the next call.
  Sequence* Next(int n_waiting);

 private:
  using Key = std::tuple<const Share*, const Share*, int>;  // tenant, expert, priority
  struct Turn {
    int place = 0;
    uint64_t tenant_served = 0;
    uint64_t expert_served = 0;
    Sequence* sequence = nullptr;
    bool before(const Turn& other) const;
  };
  static size_t Level(int priority);
  static int PlaceOf(int priority, bool aged);  // see the table in turn_queue.cc

  void DropEmptyGroups();
  void FindBestRanks();
  bool HasAged(const Sequence& sequence) const;
  void PlaceBegun(uint64_t least_tenant);
  void TakeOverdue(MonotonicTime now);
  // Fills heap_ with the groups that have someone in the next place that has anyone.
  void NextPlace();
  void PushGroup(TurnGroup* group);
  bool IsInPlace(const TurnGroup& group) const;
  Turn TurnOf(const TurnGroup& group) const;
  void Advance(TurnGroup* group) const;

  const Options options_;
  int n_ = 0;
  absl::flat_hash_map<Key, std::unique_ptr<TurnGroup>> groups_;
  std::vector<std::unique_ptr<TurnGroup>> spare_;
  std::vector<Sequence*> with_blocks_;  // that waited with blocks when they came; some hold none any more

  // Of the step under way.
  uint64_t step_ = 0;
  std::vector<Turn> begun_;
  size_t n_begun_taken_ = 0;
  int n_waiting_taken_ = 0;
  Sequence* overdue_ = nullptr;
  std::vector<TurnGroup*> by_priority_;  // highest first
  size_t n_in_heap_from_ = 0;            // groups of by_priority_ before it had their places
  std::vector<TurnGroup*> heap_;         // of those in `place_`
  int place_ = 0;
  std::array<const Sequence*, 2 * kMaxPriority + 1> best_ = {};         // by level; null: nobody competes
  std::array<const Sequence*, 2 * kMaxPriority + 1> best_higher_ = {};  // of all levels above
};

}  // namespace coterie

#endif  // COTERIE_WORKER_ENGINE_TURN_QUEUE_H_
