#ifndef COTERIE_GATEWAY_ACCESS_ACCESS_PASS_H_
#define COTERIE_GATEWAY_ACCESS_ACCESS_PASS_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <utility>

#include "common/api_keys.h"
#include "common/clock.h"
#include "common/mutex.h"
#include "common/name_patterns.h"
#include "common/status.h"
#include "gateway/access/access_metrics.h"
#include "gateway/access/key_use.h"

namespace coterie::gateway {

// One key of the ring, as it stood in the file when the ring was made.
struct KeyEntry {
  ApiKey key;
  std::shared_ptr<const NamePatterns> experts;  // null: all
  std::shared_ptr<KeyUse> use;
};

// What the key of one request allows: made when the key was checked, and carried along by everything that is
// done for the request. A request may be several tasks (the choices of one completion): it counts once, and
// has its place among the concurrent ones while any of them runs. Thread-safe.
class AccessPass {
 public:
  using Clock = std::function<MonotonicTime()>;
  AccessPass(std::shared_ptr<const KeyEntry> entry, std::shared_ptr<AccessMetrics> metrics, Clock clock)
      : entry_(std::move(entry)), metrics_(std::move(metrics)), clock_(std::move(clock)) {}
  ~AccessPass();
  AccessPass(const AccessPass&) = delete;
  AccessPass& operator=(const AccessPass&) = delete;

  const ApiKey& key() const { return entry_->key; }
  const std::shared_ptr<const NamePatterns>& experts() const { return entry_->experts; }

  // A task of the request begins, and ends: each Enter that went well is followed by one Leave.
  // ResourceExhausted, with the time after which to try again, where a quota is used up.
  Status Enter();
  void Leave();
  // For the quota at once, in the tenant's metric when the request has ended.
  void SpendTokens(uint64_t n);

 private:
  void CountTokens();

  const std::shared_ptr<const KeyEntry> entry_;
  const std::shared_ptr<AccessMetrics> metrics_;
  const Clock clock_;
  Mutex mutex_;
  bool holds_place_ ABSL_GUARDED_BY(mutex_) = false;
  int n_tasks_ ABSL_GUARDED_BY(mutex_) = 0;
  std::atomic<uint64_t> n_spent_ = 0;  // and not counted yet
};

}  // namespace coterie::gateway

#endif  // COTERIE_GATEWAY_ACCESS_ACCESS_PASS_H_
