#ifndef COTERIE_GATEWAY_ACCESS_KEYS_H_
#define COTERIE_GATEWAY_ACCESS_KEYS_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "common/metrics.h"
#include "common/mutex.h"
#include "common/repeated_call.h"
#include "common/unix_time.h"
#include "common/watched_file.h"
#include "gateway/access/key_ring.h"

namespace coterie::gateway {

// The keys file, read again when it changes: the check that every request of a client passes, whatever the
// protocol. A file that cannot be read, or is broken, is named in the log, and the keys before it go on.
// Thread-safe.
class Keys {
 public:
  struct Options {
    std::string file;
    absl::Duration poll = absl::Milliseconds(500);
    std::function<int64_t()> unix_now = UnixSeconds;  // keys expire by the calendar
    AccessPass::Clock clock = MonotonicNow;
  };
  // The error of the file where it is broken at the start. `registry` outlives this.
  static StatusOr<std::unique_ptr<Keys>> Start(Options options, MetricsRegistry* registry);

  // The pass of a request that shows `key`; empty: it shows none. Unauthenticated otherwise, in words that
  // say what to do and nothing of the key.
  StatusOr<std::shared_ptr<AccessPass>> Check(std::string_view key) const;
  // Looks at the file now; the thread does so by itself.
  void Refresh();

 private:
  explicit Keys(Options options, MetricsRegistry* registry)
      : options_(std::move(options)),
        metrics_(std::make_shared<AccessMetrics>(registry)),
        file_(options_.file, ApiKeyLimits::kMaxFileBytes) {}

  Status Read() ABSL_EXCLUSIVE_LOCKS_REQUIRED(refresh_mutex_);

  const Options options_;
  const std::shared_ptr<AccessMetrics> metrics_;
  Mutex refresh_mutex_;
  WatchedFile file_ ABSL_GUARDED_BY(refresh_mutex_);
  Status broken_ ABSL_GUARDED_BY(refresh_mutex_);          // why what was read last is not used
  std::string complaint_ ABSL_GUARDED_BY(refresh_mutex_);  // said once
  mutable Mutex mutex_;
  std::shared_ptr<const KeyRing> ring_ ABSL_GUARDED_BY(mutex_);  // not null
  std::optional<RepeatedCall> refreshes_;
};

// The key in what a client sent: of `authorization` ("Bearer KEY"), else of `x-api-key`. Empty where neither
// holds one.
std::string_view KeyIn(std::string_view authorization, std::string_view x_api_key);

}  // namespace coterie::gateway

#endif  // COTERIE_GATEWAY_ACCESS_KEYS_H_
