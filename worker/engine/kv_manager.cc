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
  COTERIE_CHECK(s->n_blocks() == 0 && s->n_computed == 0)
      << "sequence " << s->request.id << " already has blocks";
  // The rows go on together, so only what is cached of every one of them is of use.
  int n_blocks = std::max(max_tokens, 0) / kKvBlockTokens;
  for (const SequenceRow& row : s->rows) n_blocks = CachedBlocks(row, n_blocks);
  for (SequenceRow& row : s->rows) {
    for (int i = 0; i < n_blocks; ++i) {
      const int32_t block = cache_.Find(row.keys[i]);
      Share(block);
      row.blocks.push_back(block);
    }
  }
  s->n_cached_blocks = n_blocks;
  s->n_computed = s->n_launched = s->n_cached_blocks * kKvBlockTokens;
}

// How many of the row's leading blocks are cached, at most `most`.
int KvManager::CachedBlocks(const SequenceRow& row, int most) const {
  most = std::min(most, static_cast<int>(row.keys.size()));
  int n = 0;
  while (n < most && cache_.Find(row.keys[n]) >= 0) ++n;
  return n;
}

int KvManager::MissingBlocks(const Sequence& s, int n_tokens) {
  return s.n_rows() * std::max(0, KvBlocksFor(n_tokens) - s.n_blocks());
}

bool KvManager::Reserve(Sequence* s, int n_tokens) {
  const int missing = MissingBlocks(*s, n_tokens);
  if (missing > n_available()) return false;
  for (SequenceRow& row : s->rows) {
    for (int i = 0; i < missing / s->n_rows(); ++i) row.blocks.push_back(Take());
  }
  return true;
}

void KvManager::Commit(Sequence* s, int n_computed) {
  s->n_computed = n_computed;
  const int whole = n_computed / kKvBlockTokens;
  for (SequenceRow& row : s->rows) {
    for (int i = s->n_cached_blocks; i < whole; ++i) CommitBlock(s->tokens, i, &row);
  }
  s->n_cached_blocks = std::max(s->n_cached_blocks, whole);
}

void KvManager::CommitBlock(std::span<const int32_t> tokens, int i, SequenceRow* row) {
  if (i == static_cast<int>(row->keys.size())) {
    const PrefixHash& parent = i == 0 ? row->root : row->keys[i - 1];
    row->keys.push_back(hasher_.Extend(parent, tokens.subspan(i * kKvBlockTokens, kKvBlockTokens)));
  }
  const int32_t existing = cache_.Find(row->keys[i]);
  if (existing < 0) {
    cache_.Insert(row->keys[i], row->blocks[i]);
    Record(row->keys[i], true);
  } else if (existing != row->blocks[i]) {
    Share(existing);
    Drop(row->blocks[i]);
    row->blocks[i] = existing;
    row->n_table_blocks = std::min(row->n_table_blocks, i);
  }
}

void KvManager::Release(Sequence* s) {
  for (SequenceRow& row : s->rows) {
    // Deepest first: see PrefixCache on why this keeps eviction at the leaves.
    for (auto block = row.blocks.rbegin(); block != row.blocks.rend(); ++block) Drop(*block);
    row.blocks.clear();
    row.n_table_blocks = 0;
  }
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

// One more user of a cached block.
void KvManager::Share(int32_t block) {
  if (allocator_.users(block) == 0) cache_.Acquire(block);
  allocator_.AddUser(block);
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
