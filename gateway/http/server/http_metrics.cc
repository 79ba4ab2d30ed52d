#include "gateway/http/server/http_metrics.h"

#include <string>

namespace coterie::gateway::http {

HttpMetrics::HttpMetrics(MetricsRegistry* registry, int threads)
    : under_way(registry->Gauge("coterie_http_requests_under_way", "HTTP requests that are being answered.")),
      streams(registry->Gauge("coterie_http_streams", "Of them event streams that have begun.")),
      body_bytes(registry->Gauge("coterie_http_body_bytes", "Request bodies that are held at this moment.")),
      comments(registry->Counter("coterie_http_keep_alive_comments_total",
                                 "Comments sent into event streams that were silent.")),
      failed_handshakes(registry->Counter("coterie_http_tls_handshake_failures_total",
                                          "Connections that ended before TLS was agreed on.")),
      registry_(registry) {
  registry->Gauge("coterie_http_threads", "Threads that read and write HTTP connections.").Increment(threads);
}

void HttpMetrics::CountRequest(const char* route, int code) {
  registry_
      ->Counter("coterie_http_requests_total",
                "HTTP requests by route and status; 499: the client went before its answer was there.",
                {{"route", route}, {"code", std::to_string(code)}})
      .Increment();
}

}  // namespace coterie::gateway::http
