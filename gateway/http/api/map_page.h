#ifndef COTERIE_GATEWAY_HTTP_API_MAP_PAGE_H_
#define COTERIE_GATEWAY_HTTP_API_MAP_PAGE_H_

#include <memory>
#include <string>

#include "common/mutex.h"
#include "common/name_patterns.h"
#include "gateway/core/gateway_core.h"
#include "router/expert_map.h"

namespace coterie::gateway::http {

// What /v1/map says: where the experts' prototypes lie in a plane, and how an embedding is put into it. Drawn
// once for each index of the router. Thread-safe.
class MapPage {
 public:
  explicit MapPage(const GatewayCore* core) : core_(core) {}

  // With the experts that match alone (null: all). Takes as long as drawing it when the index is new:
  // belongs on the work pool.
  std::string Page(const NamePatterns* experts);

 private:
  std::shared_ptr<const ExpertMap> MapOf(const RouterState& state);

  const GatewayCore* const core_;
  Mutex mutex_;
  std::weak_ptr<const ExpertIndex> drawn_from_ ABSL_GUARDED_BY(mutex_);
  std::shared_ptr<const ExpertMap> map_ ABSL_GUARDED_BY(mutex_);  // null: never drawn
};

}  // namespace coterie::gateway::http

#endif  // COTERIE_GATEWAY_HTTP_API_MAP_PAGE_H_
