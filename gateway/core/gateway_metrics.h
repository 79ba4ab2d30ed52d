#ifndef COTERIE_GATEWAY_CORE_GATEWAY_METRICS_H_
#define COTERIE_GATEWAY_CORE_GATEWAY_METRICS_H_

#include "common/metrics.h"
#include "common/status.h"
#include "gateway/core/expert_metrics.h"

namespace coterie::gateway {

// Every number the gateway shows but those read at the time of the scrape (live_metrics.h). Thread-safe.
class GatewayMetrics {
 public:
  explicit GatewayMetrics(MetricsRegistry* registry);

  MetricsRegistry* const registry;

  // By RPC and the status code it ended with.
  void CountRequest(const char* rpc, const Status& status);

  prometheus::Histogram& time_to_first_token;
  prometheus::Histogram& time_per_output_token;
  prometheus::Histogram& end_to_end;
  prometheus::Histogram& queue;  // admission and the worker's queue together
  prometheus::Histogram& embed;
  prometheus::Histogram& route;
  prometheus::Histogram& router_score;
  prometheus::Histogram& router_margin;
  prometheus::Counter& prompt_tokens;
  prometheus::Counter& generated_tokens;
  prometheus::Counter& cached_prompt_tokens;
  prometheus::Counter& failovers_same_numerics;
  prometheus::Counter& failovers_other_numerics;
  prometheus::Counter& reattachments;
  prometheus::Counter& abstained;  // routed to the base for want of a good expert
  ExpertMetrics experts;
  BoundedCounters tenant_requests;
};

}  // namespace coterie::gateway

#endif  // COTERIE_GATEWAY_CORE_GATEWAY_METRICS_H_
