#ifndef COTERIE_GATEWAY_TEXT_EMBEDDING_CACHE_H_
#define COTERIE_GATEWAY_TEXT_EMBEDDING_CACHE_H_

#include <cstddef>
#include <list>
#include <optional>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "absl/hash/hash.h"
#include "common/digest.h"
#include "common/mutex.h"

namespace coterie::gateway {

// Vectors of messages that were embedded a while ago: a conversation brings all of its messages with every
// question, and only the last is new. The least recently used is forgotten first. A gateway without the
// vector embeds again, so nothing depends on which gateway is asked. Thread-safe.
class EmbeddingCache {
 public:
  // 4096 vectors of 384 floats are 6 MB.
  explicit EmbeddingCache(size_t max_texts = 4096) : max_texts_(max_texts) {}

  // Texts of different salts never meet (RequestContext.cache_salt).
  static Digest KeyOf(std::string_view text, std::string_view salt);
  std::optional<std::vector<float>> Find(const Digest& key);
  void Keep(const Digest& key, std::vector<float> vector);
  size_t size() const;

 private:
  using Entry = std::pair<Digest, std::vector<float>>;
  const size_t max_texts_;
  mutable Mutex mutex_;
  std::list<Entry> recent_ ABSL_GUARDED_BY(mutex_);  // the latest first
  std::unordered_map<Digest, std::list<Entry>::iterator, absl::Hash<Digest>> found_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace coterie::gateway

#endif  // COTERIE_GATEWAY_TEXT_EMBEDDING_CACHE_H_
