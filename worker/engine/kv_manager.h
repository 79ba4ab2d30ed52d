#ifndef COTERIE_WORKER_ENGINE_KV_MANAGER_H_
#define COTERIE_WORKER_ENGINE_KV_MANAGER_H_

#include <cstdint>
#include <span>
#include <vector>

#include "common/prefix_key.h"
#include "worker/engine/block_allocator.h"
#include "worker/engine/output_batch.h"
#include "worker/engine/prefix_cache.h"
#include "worker/engine/sequence.h"

namespace coterie {

// Which blocks each sequence holds: allocation, sharing by prefix, eviction of cached blocks nobody uses.
// Only whole blocks whose KV has been computed are shared, and they are never written again. Not thread-safe:
// the engine's thread owns it; allocates nothing after construction.
class KvManager {
 public:
  explicit KvManager(int n_blocks);

  // Gives a sequence without blocks the longest chain of its tokens that is cached for all its rows, which
  // count as computed. At most `max_tokens` of them, so that at least one token is left whose logits the
  // caller needs.
  void AttachPrefix(Sequence* sequence, int max_tokens);
  // Makes sure that each row's blocks cover positions [0, n_tokens). False, and nothing changed, when too few
  // can be had.
  bool Reserve(Sequence* sequence, int n_tokens);
  // The first `n_computed` tokens have their KV: enters newly whole blocks into the cache. Where the cache
  // already has a block of that content (two sequences computed it side by side), the sequence takes that one
  // and frees its own: their bits are equal (batch invariance).
  void Commit(Sequence* sequence, int n_computed);
  // Lets go of every block; cached ones stay until they are evicted. No step in flight uses them.
  void Release(Sequence* sequence);

  // Blocks that Reserve(sequence, n_tokens) would have to find, for all rows.
  static int MissingBlocks(const Sequence& sequence, int n_tokens);

  // Blocks that can be had without taking them from a sequence.
  int n_available() const { return allocator_.n_free() + cache_.n_unused(); }
  int n_blocks() const { return allocator_.n_blocks(); }
  int n_used() const { return n_blocks() - n_available(); }
  int n_cached() const { return cache_.n_cached(); }

  // Keys that entered or left the cache since the last call, appended to `events`.
  void TakeEvents(std::vector<PrefixEvent>* events);

 private:
  int CachedBlocks(const SequenceRow& row, int most) const;
  void CommitBlock(std::span<const int32_t> tokens, int i, SequenceRow* row);
  int32_t Take();
  void Share(int32_t block);
  void Drop(int32_t block);
  void Record(const PrefixHash& key, bool added);

  BlockAllocator allocator_;
  PrefixCache cache_;
  PrefixHasher hasher_;
  std::vector<PrefixEvent> events_;
};

}  // namespace coterie

#endif  // COTERIE_WORKER_ENGINE_KV_MANAGER_H_
