#ifndef COTERIE_MODEL_TEXT_BASE_TEXT_H_
#define COTERIE_MODEL_TEXT_BASE_TEXT_H_

#include <memory>
#include <string>
#include <vector>

#include "common/status.h"
#include "model/chat/chat_template.h"
#include "model/format/model_files.h"
#include "model/text/end_tokens.h"
#include "model/text/tokenizer.h"

namespace coterie {

// What a base model's files say about text. Gateway and worker both read it here, so that they agree.
struct BaseText {
  std::shared_ptr<const Tokenizer> tokenizer;
  ChatTemplate chat_template;        // unusable, saying why, where the model's own cannot be read
  std::vector<EndToken> end_tokens;  // ascending by id
  // What a person should know before trusting the answers, a sentence each; usually none.
  std::vector<std::string> warnings;
};

// `files` is not needed afterwards. NotFound, InvalidArgument, Unimplemented or FailedPrecondition naming the
// file and what is wrong with its tokenizer.
StatusOr<BaseText> LoadBaseText(const ModelFiles& files);

}  // namespace coterie

#endif  // COTERIE_MODEL_TEXT_BASE_TEXT_H_
