#ifndef COTERIE_GATEWAY_ACCESS_ACCESS_METRICS_H_
#define COTERIE_GATEWAY_ACCESS_ACCESS_METRICS_H_

#include <string>

#include "common/metrics.h"

namespace coterie::gateway {

// Keys in /metrics: what was refused and why, what tenants use. Labels are bounded: reasons are ours, and
// tenants beyond the first hundred share one. Thread-safe.
class AccessMetrics {
 public:
  explicit AccessMetrics(MetricsRegistry* registry);

  // `reason`: missing, unknown, malformed, revoked, expired, requests, tokens or concurrent.
  void CountRefusal(const char* reason);

 private:
  MetricsRegistry* const registry_;

 public:
  prometheus::Gauge& keys;
  prometheus::Counter& reload_failures;
  BoundedCounters tenant_refusals;
  BoundedCounters tenant_tokens;
};

}  // namespace coterie::gateway

#endif  // COTERIE_GATEWAY_ACCESS_ACCESS_METRICS_H_
