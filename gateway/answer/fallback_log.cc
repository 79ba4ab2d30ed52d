#include "gateway/answer/fallback_log.h"

#include <utility>

#include "absl/strings/str_join.h"
#include "common/log/named.h"
#include "spdlog/spdlog.h"

namespace coterie::gateway {

void FallbackLog::Note(std::span<const std::string> experts, const Status& why, std::string_view instead,
                       MonotonicTime now) {
  uint64_t n_left_out = 0;
  {
    MutexLock lock(&mutex_);
    if (now - begin_ >= kInterval) {
      begin_ = now;
      said_.clear();
    }
    if (said_.size() >= kMaxLines || !said_.insert(absl::StrJoin(experts, " and ")).second) {
      ++n_left_out_;
      return;
    }
    n_left_out = std::exchange(n_left_out_, 0);
  }
  spdlog::warn("{}; {} ({} more fallbacks since the last such line; at most one a minute for each expert)",
               Named("why", std::string(why.message())), Named("instead", instead),
               Named("left_out", n_left_out));
}

}  // namespace coterie::gateway
