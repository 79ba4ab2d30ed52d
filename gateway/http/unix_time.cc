#include "gateway/http/unix_time.h"

#include "absl/time/clock.h"
#include "absl/time/time.h"

namespace coterie::gateway::http {

int64_t UnixSeconds() { return absl::ToUnixSeconds(absl::Now()); }

std::string HttpDate() {
  return absl::FormatTime("%a, %d %b %Y %H:%M:%S GMT", absl::Now(), absl::UTCTimeZone());
}

}  // namespace coterie::gateway::http
