#ifndef COTERIE_GATEWAY_ROUTING_CONVERSATION_ROUTING_H_
#define COTERIE_GATEWAY_ROUTING_CONVERSATION_ROUTING_H_

#include <memory>
#include <span>

#include "gateway/routing/router_state.h"
#include "router/conversation.h"

namespace coterie::gateway {

// A ConversationWalk over one generation of the catalogue, for one request to "auto". Keeps what it walks
// over alive. Not thread-safe.
class ConversationRouting {
 public:
  // `phrases` may be null, and must outlive this. InvalidArgument for an unknown policy.
  static StatusOr<std::unique_ptr<ConversationRouting>> Create(std::shared_ptr<const RouterState> state,
                                                               RoutingAsk ask,
                                                               const ConversationPhrases* phrases,
                                                               const ConversationOptions& options);

  ConversationWalk& walk() { return *walk_; }
  // What RouterState::Decide says of the message that the last one is routed by.
  StatusOr<Decision> Decide() const;

 private:
  ConversationRouting(std::shared_ptr<const RouterState> state, RoutingAsk ask)
      : state_(std::move(state)), ask_(std::move(ask)) {}

  const std::shared_ptr<const RouterState> state_;
  const RoutingAsk ask_;
  ExpertMask mask_;
  std::unique_ptr<ConversationWalk> walk_;  // borrows all of the above
};

}  // namespace coterie::gateway

#endif  // COTERIE_GATEWAY_ROUTING_CONVERSATION_ROUTING_H_
