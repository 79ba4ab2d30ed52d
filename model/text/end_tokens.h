#ifndef COTERIE_MODEL_TEXT_END_TOKENS_H_
#define COTERIE_MODEL_TEXT_END_TOKENS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "common/status.h"
#include "model/chat/chat_template.h"
#include "model/format/model_files.h"
#include "model/text/tokenizer.h"

namespace coterie {

// A token that ends an answer: it is not part of the answer's text.
struct EndToken {
  int32_t id = -1;
  std::string text;    // as the vocabulary writes it
  std::string source;  // what says so: a file, a key, "tokenizer files", "chat template" or "name"
  bool operator==(const EndToken&) const = default;
};

// Every token that ends an answer of this base, ascending by id; the one place that decides it, for gateway
// and worker alike:
//   - those that the files name: GGUF's eos, eot and eom ids; generation_config.json's, config.json's and the
//     tokenizer's own eos (config.json's only where it is a control token or nothing else is named: it is
//     often left over from another vocabulary);
//   - the control token with which the chat template closes an assistant's message (turn_end.h);
//   - control tokens whose name says it ("<|im_end|>", "<|eot_id|>", "</s>", ...): a base model that was
//     tuned for conversations emits them although no file mentions them.
// May be empty: answers then end by length or by what their request says.
std::vector<EndToken> FindEndTokens(const ModelFiles& files, const Tokenizer& tokenizer,
                                    const ChatTemplate& chat);

}  // namespace coterie

#endif  // COTERIE_MODEL_TEXT_END_TOKENS_H_
