#ifndef COTERIE_GATEWAY_WATCH_LIVE_METRICS_H_
#define COTERIE_GATEWAY_WATCH_LIVE_METRICS_H_

#include <vector>

#include "gateway/core/gateway_core.h"
#include "prometheus/collectable.h"

namespace coterie::gateway {

// Levels that are read at the time of the scrape: requests running and waiting, the workers as they last
// reported.
class LiveMetrics final : public prometheus::Collectable {
 public:
  explicit LiveMetrics(const GatewayCore* core) : core_(core) {}
  std::vector<prometheus::MetricFamily> Collect() const override;

 private:
  const GatewayCore* const core_;
};

}  // namespace coterie::gateway

#endif  // COTERIE_GATEWAY_WATCH_LIVE_METRICS_H_
