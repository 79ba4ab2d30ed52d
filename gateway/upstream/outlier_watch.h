#ifndef COTERIE_GATEWAY_UPSTREAM_OUTLIER_WATCH_H_
#define COTERIE_GATEWAY_UPSTREAM_OUTLIER_WATCH_H_

#include <cstdint>
#include <string>

#include "absl/time/time.h"
#include "common/clock.h"

namespace coterie::gateway {

// Whether a worker fails again and again (flaps), so that new answers should go elsewhere for a while. The
// first failure costs nothing: workers die. A second one within the memory ejects the worker, and each
// further ejection lasts twice as long; while it is out, every failure begins its time anew, since only quiet
// lets it back in. Quiet also makes it forget, one failure and one doubling per `memory`. Not thread-safe.
class OutlierWatch {
 public:
  struct Options {
    absl::Duration first = absl::Seconds(5);    // of the first ejection; zero: never eject
    absl::Duration longest = absl::Minutes(5);  // that doubling leads to
    absl::Duration memory = absl::Minutes(1);   // how long a failure counts
  };

  explicit OutlierWatch(const Options& options) : options_(options) {}

  // The worker failed. True when this ejects it, that is when it was not out already.
  bool Fail(MonotonicTime now);
  // How much longer it is out; zero when it is not.
  absl::Duration ejected_for(MonotonicTime now) const;
  MonotonicTime ejected_until() const { return until_; }  // of the last ejection, over or not

  // For people, while it is out for `left` more.
  std::string InWords(absl::Duration left) const;

  MonotonicTime last_failure() const { return last_failure_; }
  uint32_t failures() const { return n_failures_; }    // that still count
  uint64_t ejections() const { return n_ejections_; }  // ever

 private:
  void Forget(MonotonicTime now);

  Options options_;
  MonotonicTime last_failure_ = MonotonicTime::InfinitePast();
  MonotonicTime until_ = MonotonicTime::InfinitePast();
  absl::Duration length_;     // of the present ejection, or the last
  uint32_t n_doublings_ = 0;  // of the next one
  uint32_t n_failures_ = 0;
  uint64_t n_ejections_ = 0;
};

}  // namespace coterie::gateway

#endif  // COTERIE_GATEWAY_UPSTREAM_OUTLIER_WATCH_H_
