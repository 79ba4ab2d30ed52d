#ifndef COTERIE_GATEWAY_CORE_APPLY_PASS_H_
#define COTERIE_GATEWAY_CORE_APPLY_PASS_H_

#include <algorithm>
#include <memory>
#include <utility>

#include "gateway/access/access_pass.h"
#include "gateway/core/request.h"

namespace coterie::gateway {

// What the caller's key decides, whatever the request says: the tenant, the highest priority, the experts.
// A null pass decides nothing.
inline void ApplyPass(std::shared_ptr<AccessPass> pass, RequestContext* context) {
  if (pass == nullptr) return;
  context->tenant = pass->key().tenant;
  context->priority = std::min(context->priority, pass->key().max_priority);
  context->pass = std::move(pass);
}

inline void ApplyPass(std::shared_ptr<AccessPass> pass, RequestContext* context, RoutingAsk* routing) {
  if (pass != nullptr) routing->granted = pass->experts();
  ApplyPass(std::move(pass), context);
}

}  // namespace coterie::gateway

#endif  // COTERIE_GATEWAY_CORE_APPLY_PASS_H_
