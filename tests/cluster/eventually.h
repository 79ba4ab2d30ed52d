#ifndef COTERIE_TESTS_CLUSTER_EVENTUALLY_H_
#define COTERIE_TESTS_CLUSTER_EVENTUALLY_H_

#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "common/clock.h"

namespace coterie::cluster {

// Polls until `condition` holds; false after `timeout`.
template <typename Condition>
bool Eventually(Condition condition, absl::Duration timeout = absl::Seconds(50)) {
  const MonotonicTime until = MonotonicNow() + timeout;
  while (MonotonicNow() < until) {
    if (condition()) return true;
    absl::SleepFor(absl::Milliseconds(5));
  }
  return condition();
}

}  // namespace coterie::cluster

#endif  // COTERIE_TESTS_CLUSTER_EVENTUALLY_H_
