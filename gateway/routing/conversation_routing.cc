#include "gateway/routing/conversation_routing.h"

#include <utility>

namespace coterie::gateway {

StatusOr<std::unique_ptr<ConversationRouting>> ConversationRouting::Create(
    std::shared_ptr<const RouterState> state, RoutingAsk ask, const ConversationPhrases* phrases,
    const ConversationOptions& options) {
  auto routing =
      std::unique_ptr<ConversationRouting>(new ConversationRouting(std::move(state), std::move(ask)));
  ASSIGN_OR_RETURN(const RoutingPolicy* policy, routing->state_->PolicyOf(routing->ask_));
  const RouteQuery query = routing->state_->QueryOf(routing->ask_, &routing->mask_);
  routing->walk_ =
      std::make_unique<ConversationWalk>(&routing->state_->index(), policy, phrases, query, options);
  return routing;
}

StatusOr<Decision> ConversationRouting::Decide() const {
  ASSIGN_OR_RETURN(Decision decision, state_->DecisionOf(walk_->plan(), ask_));
  decision.kept = walk_->kept();
  return decision;
}

}  // namespace coterie::gateway
