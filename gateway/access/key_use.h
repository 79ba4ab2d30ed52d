#ifndef COTERIE_GATEWAY_ACCESS_KEY_USE_H_
#define COTERIE_GATEWAY_ACCESS_KEY_USE_H_

#include <cstdint>

#include "common/api_keys.h"
#include "common/clock.h"
#include "common/mutex.h"
#include "common/status.h"
#include "gateway/access/token_bucket.h"

namespace coterie::gateway {

// What a key has used of its quotas: outlives the key's entry, so that writing the file anew fills no bucket.
// Thread-safe.
class KeyUse {
 public:
  enum class Short { kNothing, kRequests, kTokens, kConcurrent };
  struct Refusal {
    Short what = Short::kNothing;
    Status status;  // ResourceExhausted naming key and limit, with the time after which to try again
  };

  KeyUse(const ApiKey& key, MonotonicTime now)
      : requests_(key.requests_per_minute, now), tokens_(key.tokens_per_minute, now) {}

  // Takes one request, and a place among the concurrent ones; nothing where one of the three quotas is used
  // up.
  Refusal Begin(const ApiKey& key, MonotonicTime now);
  void End();
  void SpendTokens(uint64_t n, MonotonicTime now);
  void SetLimits(const ApiKey& key, MonotonicTime now);

 private:
  Mutex mutex_;
  TokenBucket requests_ ABSL_GUARDED_BY(mutex_);
  TokenBucket tokens_ ABSL_GUARDED_BY(mutex_);
  uint32_t n_running_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace coterie::gateway

#endif  // COTERIE_GATEWAY_ACCESS_KEY_USE_H_
