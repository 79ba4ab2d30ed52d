#ifndef COTERIE_GATEWAY_ACCESS_KEY_RING_H_
#define COTERIE_GATEWAY_ACCESS_KEY_RING_H_

#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "gateway/access/access_pass.h"

namespace coterie::gateway {

// The keys of one reading of the file, found by their hashes. Immutable and thread-safe.
class KeyRing {
 public:
  // Of keys that `before`, which may be null, knew by their ids, use goes on.
  static std::shared_ptr<const KeyRing> Create(std::vector<ApiKey> keys, const KeyRing* before,
                                               MonotonicTime now);

  // The entry of a key that somebody showed, or null. Takes as long whatever the key's hash has in common
  // with one that is here.
  std::shared_ptr<const KeyEntry> Find(std::string_view shown) const;
  size_t size() const { return by_id_.size(); }
  // Neither revoked nor expired.
  size_t CountValid(int64_t now_unix) const;

 private:
  // By the first eight bytes of the hash: what a client can learn from the time that a look-up takes is
  // about hashes, which it cannot choose.
  absl::flat_hash_map<uint64_t, std::vector<std::shared_ptr<const KeyEntry>>> by_hash_;
  absl::flat_hash_map<std::string, std::shared_ptr<const KeyEntry>> by_id_;
};

}  // namespace coterie::gateway

#endif  // COTERIE_GATEWAY_ACCESS_KEY_RING_H_
