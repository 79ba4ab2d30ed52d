#include "gateway/access/key_ring.h"

#include <openssl/crypto.h>

#include <cstring>
#include <string>
#include <utility>

namespace coterie::gateway {
namespace {

uint64_t Beginning(const Digest& digest) {
  uint64_t value;
  std::memcpy(&value, digest.bytes().data(), sizeof(value));
  return value;
}

}  // namespace

std::shared_ptr<const KeyRing> KeyRing::Create(std::vector<ApiKey> keys, const KeyRing* before,
                                               MonotonicTime now) {
  auto ring = std::make_shared<KeyRing>();
  for (ApiKey& key : keys) {
    auto entry = std::make_shared<KeyEntry>();
    if (before != nullptr) {
      if (const auto old = before->by_id_.find(key.id); old != before->by_id_.end()) {
        entry->use = old->second->use;
        entry->use->SetLimits(key, now);
      }
    }
    if (entry->use == nullptr) entry->use = std::make_shared<KeyUse>(key, now);
    if (key.experts) entry->experts = std::make_shared<const NamePatterns>(*key.experts);
    entry->key = std::move(key);
    ring->by_hash_[Beginning(entry->key.digest)].push_back(entry);
    ring->by_id_.emplace(entry->key.id, entry);
  }
  return ring;
}

std::shared_ptr<const KeyEntry> KeyRing::Find(std::string_view shown) const {
  const Digest digest = HashApiKey(shown);
  const auto bucket = by_hash_.find(Beginning(digest));
  if (bucket == by_hash_.end()) return nullptr;
  for (const auto& entry : bucket->second) {
    if (CRYPTO_memcmp(entry->key.digest.bytes().data(), digest.bytes().data(), Digest::kBytes) == 0) {
      return entry;
    }
  }
  return nullptr;
}

size_t KeyRing::CountValid(int64_t now_unix) const {
  size_t n = 0;
  for (const auto& [id, entry] : by_id_) {
    const ApiKey& key = entry->key;
    n += !key.revoked && (!key.expires_unix || now_unix < *key.expires_unix);
  }
  return n;
}

}  // namespace coterie::gateway
