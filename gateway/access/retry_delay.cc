#include "gateway/access/retry_delay.h"

#include <string>

#include "absl/strings/cord.h"
#include "absl/strings/numbers.h"

namespace coterie::gateway {
namespace {

constexpr char kPayload[] = "coterie/retry-delay-ns";

}  // namespace

Status WithRetryDelay(Status status, absl::Duration delay) {
  status.SetPayload(kPayload, absl::Cord(absl::StrCat(absl::ToInt64Nanoseconds(delay))));
  return status;
}

std::optional<absl::Duration> RetryDelay(const Status& status) {
  const auto payload = status.GetPayload(kPayload);
  int64_t ns = 0;
  if (!payload || !absl::SimpleAtoi(std::string(*payload), &ns)) return std::nullopt;
  return absl::Nanoseconds(ns);
}

}  // namespace coterie::gateway
