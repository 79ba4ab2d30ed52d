#ifndef COTERIE_GATEWAY_HTTP_SERVER_HTTP_METRICS_H_
#define COTERIE_GATEWAY_HTTP_SERVER_HTTP_METRICS_H_

#include <atomic>
#include <cstdint>

#include "common/metrics.h"

namespace coterie::gateway::http {

// What the HTTP listener shows in /metrics beside its connections (net::ConnectionMetrics). Thread-safe.
class HttpMetrics {
 public:
  HttpMetrics(MetricsRegistry* registry, int threads);

  // By a route of ours ("other" for paths that are none) and the status it was answered with; 499: the client
  // went first.
  void CountRequest(const char* route, int code);

  prometheus::Gauge& under_way;  // requests being answered
  prometheus::Gauge& streams;    // of them event streams that have begun
  prometheus::Gauge& body_bytes;
  prometheus::Counter& comments;
  prometheus::Counter& failed_handshakes;

 private:
  MetricsRegistry* const registry_;
};

}  // namespace coterie::gateway::http

#endif  // COTERIE_GATEWAY_HTTP_SERVER_HTTP_METRICS_H_
