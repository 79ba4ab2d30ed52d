#ifndef COTERIE_GATEWAY_PUBLISH_OWN_ROUTING_VIEW_H_
#define COTERIE_GATEWAY_PUBLISH_OWN_ROUTING_VIEW_H_

#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "gateway/core/gateway_core.h"
#include "gateway/runtime/cancel_flag.h"
#include "model/publishing/make_expert.h"

namespace coterie::gateway {

// Asks this very gateway what publishing wants to know of routing, through the admission that clients pass.
// For threads that may wait; what it waits for ends early when `cancelled` is set.
class OwnRoutingView final : public RoutingView {
 public:
  OwnRoutingView(const GatewayCore* core, CancelFlag cancelled)
      : core_(core), cancelled_(std::move(cancelled)) {}

  StatusOr<EmbeddedTexts> Embed(std::span<const std::string> texts) override;
  StatusOr<std::optional<Rival>> NearestRival(const std::string& text, std::string_view except) override;

 private:
  const GatewayCore* const core_;
  const CancelFlag cancelled_;
};

}  // namespace coterie::gateway

#endif  // COTERIE_GATEWAY_PUBLISH_OWN_ROUTING_VIEW_H_
