#include "gateway/text/embedding_cache.h"

namespace coterie::gateway {

Digest EmbeddingCache::KeyOf(std::string_view text, std::string_view salt) {
  Hasher hasher;
  hasher.UpdateField(salt).UpdateField(text);
  return hasher.Finish();
}

std::optional<std::vector<float>> EmbeddingCache::Find(const Digest& key) {
  MutexLock lock(&mutex_);
  const auto it = found_.find(key);
  if (it == found_.end()) return std::nullopt;
  recent_.splice(recent_.begin(), recent_, it->second);
  return it->second->second;
}

void EmbeddingCache::Keep(const Digest& key, std::vector<float> vector) {
  MutexLock lock(&mutex_);
  if (max_texts_ == 0 || found_.contains(key)) return;
  if (recent_.size() >= max_texts_) {
    found_.erase(recent_.back().first);
    recent_.pop_back();
  }
  recent_.emplace_front(key, std::move(vector));
  found_.emplace(key, recent_.begin());
}

size_t EmbeddingCache::size() const {
  MutexLock lock(&mutex_);
  return recent_.size();
}

}  // namespace coterie::gateway
