#ifndef COTERIE_GATEWAY_ANSWER_TEXT_EMBEDDING_H_
#define COTERIE_GATEWAY_ANSWER_TEXT_EMBEDDING_H_

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "common/status.h"
#include "gateway/core/gateway_core.h"

namespace coterie::gateway {

inline constexpr size_t kMaxEmbedTexts = 256;  // of one request

// InvalidArgument for none, too many, or one that is too long; `field` is what the protocol calls them.
Status ValidateEmbedTexts(std::string_view field, const std::vector<std::string>& texts,
                          const RequestLimits& limits);

// Embeds validated texts by the encoder that routes, and calls `done` once, in their order, from here or from
// another thread; it must not wait. Counts the request.
using EmbedTextsDone = std::function<void(StatusOr<std::vector<std::vector<float>>>)>;
void EmbedTexts(const GatewayCore* core, std::vector<std::string> texts, EmbedTextsDone done);

}  // namespace coterie::gateway

#endif  // COTERIE_GATEWAY_ANSWER_TEXT_EMBEDDING_H_
