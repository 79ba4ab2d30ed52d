#ifndef COTERIE_GATEWAY_TEXT_LOAD_PHRASES_H_
#define COTERIE_GATEWAY_TEXT_LOAD_PHRASES_H_

#include <memory>

#include "common/status.h"
#include "gateway/text/text_embedder.h"
#include "router/conversation.h"

namespace coterie::gateway {

// Embeds what people say in every conversation, once, before anything is served (a tenth of a second). Waits
// for the embedder; its errors.
StatusOr<std::unique_ptr<const ConversationPhrases>> LoadPhrases(TextEmbedder* embedder);

}  // namespace coterie::gateway

#endif  // COTERIE_GATEWAY_TEXT_LOAD_PHRASES_H_
