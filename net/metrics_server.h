#ifndef COTERIE_NET_METRICS_SERVER_H_
#define COTERIE_NET_METRICS_SERVER_H_

#include <memory>
#include <string>
#include <vector>

#include "common/metrics.h"
#include "common/status.h"
#include "net/acceptor.h"
#include "net/tls_identity.h"
#include "prometheus/collectable.h"

namespace coterie::net {

// The page of a registry in Prometheus' text format, with what `live`, which may be null, says at this
// moment.
std::string MetricsText(const MetricsRegistry& registry, prometheus::Collectable* live);
inline constexpr char kMetricsType[] = "text/plain; version=0.0.4; charset=utf-8";

// Serves /metrics over HTTP until destroyed. A request at a time on one thread, which a silent connection
// cannot hold up and a page that nobody reads holds up for half a second at most.
class MetricsServer {
 public:
  // `address` is host:port; port 0 picks one. AlreadyExists, naming it, when the port is taken. `registry`
  // outlives the server. `live`, which may be null, is asked at every scrape as well, from the server's
  // thread, or from several with `tls`, which has a certificate.
  static StatusOr<std::unique_ptr<MetricsServer>> Start(
      MetricsRegistry* registry, const std::string& address,
      std::shared_ptr<prometheus::Collectable> live = nullptr, std::shared_ptr<TlsIdentity> tls = nullptr);
  ~MetricsServer();
  int port() const { return acceptor_->port(); }

 private:
  class Pages;

  MetricsServer() = default;
  std::unique_ptr<Pages> pages_;
  std::unique_ptr<Acceptor> acceptor_;
};

}  // namespace coterie::net

#endif  // COTERIE_NET_METRICS_SERVER_H_
