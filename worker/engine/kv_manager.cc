#include "worker/engine/kv_manager.h"

#include <algorithm>
#include <span>

#include "common/check.h"
#include "kernels/decoder_ops.h"

namespace coterie {

static_assert(kKvBlockTokens == kPrefixBlockTokens, "a prefix key names one KV block");

namespace {
// Hints for placement only: beyond this many between two steps they are dropped.
constexpr size_t kMaxEvents = 65536;
}  // namespace

KvManager::KvManager(int n_blocks) : allocator_(n_blocks), cache_(n_blocks) { events_.reserve(1024); }

void KvManager::AttachPrefix(Sequence* s, int max_tokens) {
  COTERIE_CHECK(s->blocks.empty() && s->n_computed == 0)
      << "sequence " << s->request.id << " already has blocks";
  const int max_blocks =
      std::min<int>(std::max(max_tokens, 0) / kKvBlockTokens, static_cast<int>(s->keys.size()));
  for (int i = 0; i < max_blocks; ++i) {
    const int32_t block = cache_.Find(s->keys[i]);
    if (block < 0) break;
    if (allocator_.users(block) == 0) cache_.Acquire(block);
    allocator_.AddUser(block);
    s->blocks.push_back(block);
  }
  s->n_cached_blocks = static_cast<int>(s->blocks.size());
  s->n_computed = s->n_launched = s->n_cached_blocks * kKvBlockTokens;
}

int KvManager::MissingBlocks(const Sequence& s, int n_tokens) {
  return std::max(0, KvBlocksFor(n_tokens) - static_cast<int>(s.blocks.size()));
}

bool KvManager::Reserve(Sequence* s, int n_tokens) {
  const int missing = MissingBlocks(*s, n_tokens);
  if (missing > n_available()) return false;
  for (int i = 0; i < missing; ++i) s->blocks.push_back(Take());
  return true;
}

void KvManager::Commit(Sequence* s, int n_computed) {
  s->n_computed = n_computed;
  const int whole = n_computed / kKvBlockTokens;
  for (int i = s->n_cached_blocks; i < whole; ++i) {
    if (i == static_cast<int>(s->keys.size())) {
      const PrefixHash& parent = i == 0 ? s->root : s->keys[i - 1];
      s->keys.push_back(
          hasher_.Extend(parent, std::span(s->tokens).subspan(i * kKvBlockTokens, kKvBlockTokens)));
    }
    const int32_t existing = cache_.Find(s->keys[i]);
    if (existing < 0) {
      cache_.Insert(s->keys[i], s->blocks[i]);
      Record(s->keys[i], true);
    } else if (existing != s->blocks[i]) {
      if (allocator_.users(existing) == 0) cache_.Acquire(existing);
      allocator_.AddUser(existing);
      Drop(s->blocks[i]);
      s->blocks[i] = existing;
      s->n_table_blocks = std::min(s->n_table_blocks, i);
    }
  }
  s->n_cached_blocks = std::max(s->n_cached_blocks, whole);
}

void KvManager::Release(Sequence* s) {
  // Deepest first: see PrefixCache on why this keeps eviction at the leaves.
  for (auto block = s->blocks.rbegin(); block != s->blocks.rend(); ++block) Drop(*block);
  s->blocks.clear();
  s->n_table_blocks = 0;
  s->n_computed = s->n_launched = 0;
  s->n_cached_blocks = 0;
}

int32_t KvManager::Take() {
  const int32_t block = allocator_.Allocate();
  if (block >= 0) return block;
  PrefixHash key;
  const int32_t evicted = cache_.Evict(&key);
  COTERIE_CHECK(evicted >= 0) << "more KV blocks taken than were available";
  Record(key, false);
  allocator_.AddUser(evicted);
  return evicted;
}

void KvManager::Drop(int32_t block) {
  if (!allocator_.DropUser(block)) return;
  if (cache_.Contains(block)) {
    cache_.Release(block);
  } else {
    allocator_.Free(block);
  }
}

void KvManager::Record(const PrefixHash& key, bool added) {
  if (events_.size() < kMaxEvents) events_.push_back({key.wire_key(), added});
}

void KvManager::TakeEvents(std::vector<PrefixEvent>* events) {
  events->insert(events->end(), events_.begin(), events_.end());
  events_.clear();
}

}  // namespace coterie
