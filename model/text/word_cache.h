#ifndef COTERIE_MODEL_TEXT_WORD_CACHE_H_
#define COTERIE_MODEL_TEXT_WORD_CACHE_H_

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/hash/hash.h"
#include "common/mutex.h"
#include "common/status.h"

namespace coterie::text {

// Words and their ids, so that frequent words are merged once. Bounded: a shard that is full starts over,
// which keeps it useful when a caller floods it with rare words. Thread-safe.
class WordCache {
 public:
  static constexpr size_t kMaxWordBytes = 64;  // longer words are rare and not worth their memory

  // Appends the ids of `word` and returns true when it is known.
  bool Find(std::string_view word, std::vector<int32_t>* ids) {
    Shard& shard = ShardOf(word);
    MutexLock lock(&shard.mutex);
    const auto it = shard.ids.find(ToAbsl(word));
    if (it == shard.ids.end()) return false;
    ids->insert(ids->end(), it->second.begin(), it->second.end());
    return true;
  }

  void Insert(std::string_view word, const int32_t* begin, const int32_t* end) {
    if (word.size() > kMaxWordBytes) return;
    Shard& shard = ShardOf(word);
    MutexLock lock(&shard.mutex);
    if (shard.ids.size() >= kWordsPerShard) shard.ids.clear();
    shard.ids.try_emplace(std::string(word), begin, end);
  }

 private:
  static constexpr size_t kShards = 16;
  // 16 * 4096 words of about 100 bytes: 7 MB.
  static constexpr size_t kWordsPerShard = 4096;
  struct Shard {
    Mutex mutex;
    absl::flat_hash_map<std::string, std::vector<int32_t>> ids ABSL_GUARDED_BY(mutex);
  };
  Shard& ShardOf(std::string_view word) { return shards_[absl::HashOf(ToAbsl(word)) % kShards]; }

  std::array<Shard, kShards> shards_;
};

}  // namespace coterie::text

#endif  // COTERIE_MODEL_TEXT_WORD_CACHE_H_
