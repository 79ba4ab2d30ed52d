#ifndef COTERIE_MODEL_TEXT_TURN_END_H_
#define COTERIE_MODEL_TEXT_TURN_END_H_

#include <cstdint>
#include <optional>

#include "model/chat/chat_template.h"
#include "model/text/tokenizer.h"

namespace coterie {

// The control token that `chat` writes behind an assistant's message, found by rendering small conversations
// and looking at what follows: the token with which the model was taught to end its turn. Plain text ("###
// User:") never counts, nor does a token that opens a turn (where nothing closes one, the next thing behind
// an answer is the following message's beginning). Nothing where the template closes no turn that way, or
// cannot render a conversation at all.
std::optional<int32_t> FindTurnEnd(const Tokenizer& tokenizer, const ChatTemplate& chat);

// Whether text cannot spell this token by accident: a control token, or an added one that is written like a
// control token ("<|...|>"), as fine-tunes add them.
bool LooksLikeControl(const Tokenizer& tokenizer, int32_t id);

}  // namespace coterie

#endif  // COTERIE_MODEL_TEXT_TURN_END_H_
