#ifndef COTERIE_WORKER_ENGINE_PREFIX_CACHE_H_
#define COTERIE_WORKER_ENGINE_PREFIX_CACHE_H_

#include <cstdint>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "common/prefix_key.h"

namespace coterie {

// Which whole KV blocks hold the content of which prefix key, and in which order to give them up. A block
// stands in the LRU list exactly while it is cached and nobody uses it.
//
// Eviction takes leaves first without keeping a tree: a sequence uses its whole chain, so a parent is
// released no earlier than its children, and Release is called deepest block first; hence in LRU order
// children always come before their parents. (The observation that freeing in reverse order suffices is
// vLLM's.) O(1) per operation, allocates nothing after construction. Not thread-safe: the engine's thread
// owns it.
class PrefixCache {
 public:
  explicit PrefixCache(int n_blocks);

  // The block holding `key`, or -1.
  int32_t Find(const PrefixHash& key) const;
  // `block` (in use) now holds `key`. The key must be absent and the block not cached.
  void Insert(const PrefixHash& key, int32_t block);
  bool Contains(int32_t block) const { return nodes_[block].cached; }

  // Nobody uses the cached `block` any more: it may be evicted, after everything released before it.
  void Release(int32_t block);
  // The cached, unused `block` is used again.
  void Acquire(int32_t block);
  // Forgets the block unused for the longest time and returns it, with its key; -1 when every cached block is
  // used.
  int32_t Evict(PrefixHash* key);

  int n_unused() const { return n_unused_; }
  int n_cached() const { return static_cast<int>(by_key_.size()); }

 private:
  struct Node {
    PrefixHash key;
    int32_t previous = -1;
    int32_t next = -1;
    bool cached = false;
    bool unused = false;  // in the list
  };
  void Unlink(int32_t block);

  std::vector<Node> nodes_;  // [n_blocks]
  absl::flat_hash_map<PrefixHash, int32_t> by_key_;
  int32_t oldest_ = -1;
  int32_t newest_ = -1;
  int n_unused_ = 0;
};

}  // namespace coterie

#endif  // COTERIE_WORKER_ENGINE_PREFIX_CACHE_H_
