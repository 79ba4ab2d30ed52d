#ifndef COTERIE_GATEWAY_HTTP_API_API_H_
#define COTERIE_GATEWAY_HTTP_API_API_H_

#include <atomic>
#include <memory>
#include <optional>
#include <utility>

#include "common/metrics.h"
#include "gateway/core/gateway_core.h"
#include "gateway/http/api/map_page.h"
#include "gateway/http/api/models_page.h"
#include "gateway/http/console/console.h"
#include "gateway/http/server/exchange.h"
#include "prometheus/collectable.h"

namespace coterie::gateway {
class LoraAdapters;
}

namespace coterie::gateway::http {

// What the endpoints answer from. Shared by the requests under way; thread-safe.
class Api : public std::enable_shared_from_this<Api> {
 public:
  // What is borrowed outlives the gateway's work pool. `live`, which may be null: see net::MetricsText.
  // `has_console`: serves the page at "/", too. With `lora` this is the operators' listener: it loads
  // adapters, answers no questions, and asks for no keys.
  Api(const GatewayCore* core, const MetricsRegistry* registry, std::shared_ptr<prometheus::Collectable> live,
      bool has_console, LoraAdapters* lora)
      : core_(core), registry_(registry), live_(std::move(live)), lora_(lora), models_(core), map_(core) {
    if (has_console) console_.emplace();
  }

  // Answers a request by its method and path; on the connection's thread.
  void Handle(std::shared_ptr<Exchange> exchange);
  // From now on the gateway is not ready.
  void BeginDrain() { draining_ = true; }

  const GatewayCore* core() const { return core_; }
  const MetricsRegistry& registry() const { return *registry_; }
  prometheus::Collectable* live() const { return live_.get(); }
  LoraAdapters* lora() const { return lora_; }
  ModelsPage& models() { return models_; }
  MapPage& map() { return map_; }
  bool draining() const { return draining_; }

 private:
  const GatewayCore* const core_;
  const MetricsRegistry* const registry_;
  const std::shared_ptr<prometheus::Collectable> live_;
  LoraAdapters* const lora_;
  ModelsPage models_;
  MapPage map_;
  std::optional<Console> console_;
  std::atomic<bool> draining_ = false;
};

}  // namespace coterie::gateway::http

#endif  // COTERIE_GATEWAY_HTTP_API_API_H_
