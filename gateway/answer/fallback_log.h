#ifndef COTERIE_GATEWAY_ANSWER_FALLBACK_LOG_H_
#define COTERIE_GATEWAY_ANSWER_FALLBACK_LOG_H_

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "absl/container/flat_hash_set.h"
#include "common/clock.h"
#include "common/mutex.h"
#include "common/status.h"

namespace coterie::gateway {

// Logs the experts that no worker can load: for each a line a minute, and for all of them kMaxLines. While a
// store is away every routed question falls back; /metrics counts them by expert. Thread-safe.
class FallbackLog {
 public:
  static constexpr size_t kMaxLines = 16;
  static constexpr absl::Duration kInterval = absl::Minutes(1);

  // The adapters of `experts` could not be loaded because of `why`; `instead` says what answers.
  void Note(std::span<const std::string> experts, const Status& why, std::string_view instead,
            MonotonicTime now);

 private:
  Mutex mutex_;
  MonotonicTime begin_ ABSL_GUARDED_BY(mutex_) = MonotonicTime::InfinitePast();  // of this interval
  absl::flat_hash_set<std::string> said_ ABSL_GUARDED_BY(mutex_);                // in it
  uint64_t n_left_out_ ABSL_GUARDED_BY(mutex_) = 0;                              // since the last line
};

}  // namespace coterie::gateway

#endif  // COTERIE_GATEWAY_ANSWER_FALLBACK_LOG_H_
