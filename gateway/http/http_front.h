#ifndef COTERIE_GATEWAY_HTTP_HTTP_FRONT_H_
#define COTERIE_GATEWAY_HTTP_HTTP_FRONT_H_

#include <memory>
#include <utility>

#include "common/metrics.h"
#include "common/status.h"
#include "gateway/core/gateway_core.h"
#include "gateway/http/api/api.h"
#include "gateway/http/server/http_server.h"
#include "net/acceptor.h"
#include "net/tls_identity.h"
#include "prometheus/collectable.h"

namespace coterie::gateway::http {

// An HTTP listener of a gateway: OpenAI's API over the one answer core (docs/http.md), or, with `lora`, the
// operators'. Thread-safe.
class HttpFront {
 public:
  // What is borrowed outlives the gateway's work pool, which may still hold requests when this is gone.
  // `has_console`: with the page at "/".
  static StatusOr<std::unique_ptr<HttpFront>> Start(const GatewayCore* core, HttpServerOptions options,
                                                    bool has_console, net::AcceptorOptions connections,
                                                    MetricsRegistry* registry,
                                                    std::shared_ptr<prometheus::Collectable> live,
                                                    std::shared_ptr<net::TlsIdentity> tls,
                                                    LoraAdapters* lora = nullptr) {
    auto api = std::make_shared<Api>(core, registry, std::move(live), has_console, lora);
    ASSIGN_OR_RETURN(auto server,
                     HttpServer::Start(
                         std::move(options), std::move(connections),
                         [api](std::shared_ptr<Exchange> exchange) { api->Handle(std::move(exchange)); },
                         registry, std::move(tls)));
    return std::unique_ptr<HttpFront>(new HttpFront(std::move(api), std::move(server)));
  }

  int port() const { return server_->port(); }
  // Says that it is not ready, and ends every connection behind its answer.
  void BeginDrain() {
    api_->BeginDrain();
    server_->BeginDrain();
  }
  bool Drain(absl::Duration patience) { return server_->Drain(patience); }

 private:
  HttpFront(std::shared_ptr<Api> api, std::unique_ptr<HttpServer> server)
      : api_(std::move(api)), server_(std::move(server)) {}

  const std::shared_ptr<Api> api_;
  const std::unique_ptr<HttpServer> server_;
};

}  // namespace coterie::gateway::http

#endif  // COTERIE_GATEWAY_HTTP_HTTP_FRONT_H_
