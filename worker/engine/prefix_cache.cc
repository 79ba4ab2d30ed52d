#include "worker/engine/prefix_cache.h"

#include "common/check.h"

namespace coterie {

PrefixCache::PrefixCache(int n_blocks) : nodes_(n_blocks) { by_key_.reserve(n_blocks); }

int32_t PrefixCache::Find(const PrefixHash& key) const {
  auto found = by_key_.find(key);
  return found == by_key_.end() ? -1 : found->second;
}

void PrefixCache::Insert(const PrefixHash& key, int32_t block) {
  Node& node = nodes_[block];
  COTERIE_CHECK(!node.cached) << "block " << block << " cached twice";
  COTERIE_CHECK(by_key_.emplace(key, block).second) << "prefix key cached twice";
  node.key = key;
  node.cached = true;
}

void PrefixCache::Release(int32_t block) {
  Node& node = nodes_[block];
  COTERIE_CHECK(node.cached && !node.unused) << "block " << block;
  node.unused = true;
  node.previous = newest_;
  node.next = -1;
  (newest_ >= 0 ? nodes_[newest_].next : oldest_) = block;
  newest_ = block;
  ++n_unused_;
}

void PrefixCache::Acquire(int32_t block) {
  COTERIE_CHECK(nodes_[block].unused) << "block " << block;
  Unlink(block);
}

int32_t PrefixCache::Evict(PrefixHash* key) {
  const int32_t block = oldest_;
  if (block < 0) return -1;
  Unlink(block);
  Node& node = nodes_[block];
  *key = node.key;
  node.cached = false;
  by_key_.erase(node.key);
  return block;
}

void PrefixCache::Unlink(int32_t block) {
  Node& node = nodes_[block];
  (node.previous >= 0 ? nodes_[node.previous].next : oldest_) = node.next;
  (node.next >= 0 ? nodes_[node.next].previous : newest_) = node.previous;
  node.previous = node.next = -1;
  node.unused = false;
  --n_unused_;
}

}  // namespace coterie
