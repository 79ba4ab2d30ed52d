#ifndef COTERIE_WORKER_ENGINE_ADAPTER_BUDGET_H_
#define COTERIE_WORKER_ENGINE_ADAPTER_BUDGET_H_

#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "common/digest.h"
#include "common/status.h"
#include "worker/engine/adapter_entry.h"

namespace coterie {

// A waiting sequence's hold on memory for all of its adapters. Part of the sequence.
struct AdapterClaim {
  uint64_t epoch = 0;            // 0: none; of another epoch: withdrawn
  bool asked_for_order = false;  // see AdapterBudget::WithdrawFrom
};

// Who may hold which adapters. Of memory, at most `max_bytes` are promised at a time, to running sequences
// (pins) and to waiting ones (claims). A sequence is promised all of its adapters or none, before the first
// of them is loaded, and keeps the promise until it runs or ends. So whatever was loaded for a sequence is
// still there when its turn comes, and sequences that cannot all fit do not take each other's adapters away
// in turns: some of them wait. What nobody was promised is a cache, out of which memory is taken: first what
// no sequence names, longest unused first. Slots are for pins alone, `n_slots` of them.
//
// An adapter's size is known once it was loaded (and is remembered by digest: what a digest stands for never
// changes). Until then the largest size seen so far stands for it. Where that was too little, all promises to
// waiting sequences are withdrawn and given anew in their order, once for each size learnt.
//
// Not thread-safe: the engine's thread owns it.
class AdapterBudget {
 public:
  enum class Answer : uint8_t { kYes, kNotNow, kNever };

  AdapterBudget(int n_slots, size_t max_bytes) : n_slots_(n_slots), max_bytes_(max_bytes) {}

  // --- Promises ---
  bool Holds(const AdapterClaim& claim) const { return claim.epoch == epoch_; }
  // Promises all of `entries`; kNever with a `reason` when they can never be held together. As many loads at
  // a time as there are slots to fill, and always one: a queue of further ones would only hold up a
  // newcomer's.
  Answer Claim(std::span<AdapterEntry* const> entries, int priority, AdapterClaim* claim, Status* reason);
  void Release(std::span<AdapterEntry* const> entries, AdapterClaim* claim);
  void Pin(std::span<AdapterEntry* const> entries, AdapterClaim* claim);  // in exchange for the claim
  void Unpin(std::span<AdapterEntry* const> entries);
  bool HasSlots(std::span<AdapterEntry* const> entries) const;
  // A sequence of this priority found no memory. When some is held by claims of a lower one, all claims are
  // given anew in the coming round's order; a sequence can have that once.
  void WithdrawFrom(int priority, AdapterClaim* claim);
  // Withdraws claims where that is due. At the beginning of a round, before anything is claimed.
  void BeginRound();

  // --- Entries ---
  void AddRef(AdapterEntry* entry);
  void DropRef(AdapterEntry* entry);
  // Whether one may be loaded that nobody was promised, at the cost of what no sequence names.
  bool HasRoomForHint(const AdapterEntry& entry) const;
  void LoadStarted(AdapterEntry* entry);
  void LoadFailed(AdapterEntry* entry, size_t bytes);    // 0: before its size was known
  void LoadFinished(AdapterEntry* entry, size_t bytes);  // it is in memory
  void SlotTaken(AdapterEntry* entry);
  void SlotLeft(AdapterEntry* entry);
  // Of whose memory something must be taken now; null: within bounds, or all that is left is promised. The
  // caller frees it and says so by Evicted.
  AdapterEntry* Victim() const;
  void Evicted(AdapterEntry* entry);
  AdapterEntry* SlotVictim() const { return idle_in_slots_.front(); }  // null: all of them are pinned

  size_t bytes_in_memory() const { return bytes_in_memory_; }
  int n_in_memory() const { return n_in_memory_; }

  static Status TooLarge(const Digest& digest, size_t bytes, size_t max_bytes);

 private:
  size_t SizeOf(const AdapterEntry& entry) const;
  void Reserve(AdapterEntry* entry);
  void Unreserve(AdapterEntry* entry);
  void File(AdapterEntry* entry);  // in the list it belongs to
  void Unfile(AdapterEntry* entry);
  bool IsUnnamed(const AdapterEntry& entry) const { return entry.in_memory.list == &unnamed_; }
  Status TooLarge(std::span<AdapterEntry* const> entries, size_t bytes) const;
  void Remember(const Digest& digest, size_t bytes);

  const int n_slots_;
  const size_t max_bytes_;
  uint64_t epoch_ = 1;  // of the claims that hold
  bool withdraw_ = false;
  int lowest_claim_ = std::numeric_limits<int>::max();  // priority, of this epoch
  std::vector<AdapterEntry*> claimed_;                  // with claims > 0

  int n_pinned_ = 0;
  int n_reserved_unknown_ = 0;  // pinned or claimed, of unknown size
  size_t reserved_bytes_ = 0;
  size_t bytes_in_memory_ = 0;
  size_t loading_bytes_ = 0;  // as counted
  int n_loading_ = 0;
  int n_in_memory_ = 0;
  size_t unnamed_bytes_ = 0;
  EntryList unnamed_{&AdapterEntry::in_memory};      // not promised, and no sequence names them
  EntryList named_{&AdapterEntry::in_memory};        // not promised, but some sequence waits for them
  EntryList idle_in_slots_{&AdapterEntry::in_slot};  // not pinned

  size_t largest_ = 0;
  absl::flat_hash_map<Digest, size_t> sizes_;
};

}  // namespace coterie

#endif  // COTERIE_WORKER_ENGINE_ADAPTER_BUDGET_H_
