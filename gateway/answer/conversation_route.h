#ifndef COTERIE_GATEWAY_ANSWER_CONVERSATION_ROUTE_H_
#define COTERIE_GATEWAY_ANSWER_CONVERSATION_ROUTE_H_

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "common/status.h"
#include "common/trace/trace.h"
#include "gateway/core/gateway_core.h"
#include "gateway/routing/router_state.h"
#include "gateway/runtime/cancel_flag.h"

namespace coterie::gateway {

// A question to "auto" with what its user said before it.
struct ConversationToRoute {
  std::vector<std::string> messages;  // the user's, the oldest first; never empty
  RoutingAsk ask;
  std::string cache_salt;
  Trace trace;
  SpanId span;  // of the route in it
};

struct RoutedConversation {
  Decision decision;             // its times are set
  std::vector<float> embedding;  // of the message that it was routed by
};

// Embeds the messages (the earlier ones once per gateway: EmbeddingCache), walks through them
// (router/conversation.h) and calls `done` once, on the work pool or, with an error, from anywhere. Itself
// called on the work pool. What is not embedded yet when `cancelled` is set is not, and the result an error.
void RouteConversation(const GatewayCore* core, std::shared_ptr<const RouterState> state,
                       ConversationToRoute conversation, CancelFlag cancelled,
                       std::function<void(StatusOr<RoutedConversation>)> done);

}  // namespace coterie::gateway

#endif  // COTERIE_GATEWAY_ANSWER_CONVERSATION_ROUTE_H_
