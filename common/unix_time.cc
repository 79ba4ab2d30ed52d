#include "common/unix_time.h"

#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "common/quoted.h"

namespace coterie {

int64_t UnixSeconds() { return absl::ToUnixSeconds(absl::Now()); }

int64_t UnixNanos() { return absl::ToUnixNanos(absl::Now()); }

std::string HttpDate() {
  return absl::FormatTime("%a, %d %b %Y %H:%M:%S GMT", absl::Now(), absl::UTCTimeZone());
}

std::string FormatUtc(int64_t unix_seconds) {
  return absl::FormatTime("%Y-%m-%dT%H:%M:%SZ", absl::FromUnixSeconds(unix_seconds), absl::UTCTimeZone());
}

StatusOr<int64_t> ParseUtc(std::string_view text) {
  absl::Time time;
  std::string error;
  for (const char* format : {"%Y-%m-%dT%H:%M:%SZ", "%Y-%m-%d"}) {
    // absl reads "infinite-future", too, and years that nobody means.
    if (!text.empty() && text.front() >= '0' && text.front() <= '9' &&
        absl::ParseTime(format, ToAbsl(text), &time, &error)) {
      return absl::ToUnixSeconds(time);
    }
  }
  return absl::InvalidArgumentError(
      absl::StrCat(Quoted(text), " is no date in UTC such as 2027-01-31 or 2027-01-31T18:00:00Z"));
}

}  // namespace coterie
