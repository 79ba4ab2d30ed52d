#include "net/descriptors.h"

#include <dirent.h>
#include <sys/resource.h>

#include <algorithm>
#include <limits>

#include "absl/strings/str_cat.h"

namespace coterie::net {
namespace {

constexpr int64_t kMostPlaces = 8192;
constexpr int64_t kLeastReserved = 128;
constexpr int64_t kMostReserved = 4096;

int64_t Bounded(rlim_t limit) {
  constexpr auto kMost = static_cast<rlim_t>(std::numeric_limits<int32_t>::max());  // also RLIM_INFINITY
  return static_cast<int64_t>(std::min(limit, kMost));
}

}  // namespace

std::string DescriptorLimit::ToString() const {
  return absl::StrCat("at most ", soft, " descriptors (soft limit ", soft_before, " at start, hard limit ",
                      hard, ")");
}

DescriptorLimit CurrentDescriptorLimit() {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return {256, 256, 256};  // it cannot fail; little is safe
  return {Bounded(limit.rlim_cur), Bounded(limit.rlim_cur), Bounded(limit.rlim_max)};
}

DescriptorLimit RaiseDescriptorLimit() {
  DescriptorLimit limit = CurrentDescriptorLimit();
  rlimit raised{};
  if (getrlimit(RLIMIT_NOFILE, &raised) != 0) return limit;
  raised.rlim_cur = raised.rlim_max;
  if (limit.soft < limit.hard && setrlimit(RLIMIT_NOFILE, &raised) == 0) limit.soft = limit.hard;
  return limit;
}

int64_t CountOpenDescriptors() {
  DIR* const folder = opendir("/proc/self/fd");
  if (folder == nullptr) return -1;
  int64_t n = -3;                          // ".", ".." and the one this reads through
  while (readdir(folder) != nullptr) ++n;  // NOLINT(concurrency-mt-unsafe): a stream of our own
  closedir(folder);
  return n;
}

int64_t ReservedDescriptors(int64_t limit) { return std::clamp(limit / 4, kLeastReserved, kMostReserved); }

StatusOr<int> PlacesForConnections(int64_t wanted, const DescriptorLimit& limit, int n_listeners) {
  const int64_t reserved = ReservedDescriptors(limit.soft);
  const int64_t most = (limit.soft - reserved) / n_listeners;
  if (most < 1) {
    return absl::FailedPreconditionError(absl::StrCat(
        "the limit of ", limit.soft, " descriptors leaves no place for a connection beside the ", reserved,
        " for files and workers; raise the hard limit (ulimit -Hn, or LimitNOFILE of the service) to 1024 or "
        "more"));
  }
  if (wanted == 0) return static_cast<int>(std::min(most, kMostPlaces));
  if (wanted > most) {
    return absl::InvalidArgumentError(absl::StrCat(
        "--max-connections=", wanted, " does not fit: of ", limit.soft, " descriptors (hard limit ",
        limit.hard, ") ", reserved, " are for files and workers, which leaves ", most,
        n_listeners == 1 ? "" : absl::StrCat(" for each of ", n_listeners, " listeners"),
        "; lower it, or raise the hard limit (ulimit -Hn, or LimitNOFILE of the service)"));
  }
  return static_cast<int>(wanted);
}

}  // namespace coterie::net
