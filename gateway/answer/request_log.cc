#include "gateway/answer/request_log.h"

#include <optional>

#include "common/log/named.h"
#include "common/utf8.h"
#include "spdlog/spdlog.h"

namespace coterie::gateway {
namespace {

bool IsOurs(absl::StatusCode code) {
  return code == absl::StatusCode::kInternal || code == absl::StatusCode::kUnavailable ||
         code == absl::StatusCode::kDataLoss || code == absl::StatusCode::kUnknown;
}

}  // namespace

void RequestLog::Ended(const char* rpc, const Status& status, MonotonicTime now) {
  if (!IsOurs(status.code())) return;
  std::optional<uint64_t> n_left_out;
  {
    MutexLock lock(&mutex_);
    n_left_out = failures_.Note(now);
  }
  if (!n_left_out) return;
  spdlog::warn("{} failed: {}: {} ({} more since the last such line)", Named("rpc", rpc),
               Named("code", absl::StatusCodeToString(status.code())),
               Named("why", Printable(ToStd(status.message()))), Named("left_out", *n_left_out));
}

void RequestLog::Moved(std::string_view worker, std::string_view why, MonotonicTime now) {
  std::optional<uint64_t> n_left_out;
  {
    MutexLock lock(&mutex_);
    n_left_out = moves_.Note(now);
  }
  if (!n_left_out) return;
  spdlog::info("an answer continues on {}: {} ({} more since the last such line)", Named("worker", worker),
               Named("why", Printable(why)), Named("left_out", *n_left_out));
}

}  // namespace coterie::gateway
