#include "model/text/vocabulary.h"

#include <utility>

namespace coterie::text {

StatusOr<Vocabulary> Vocabulary::Create(std::vector<std::string> tokens) {
  if (tokens.empty() || tokens.size() > kMaxVocabulary) {
    return absl::InvalidArgumentError(
        absl::StrCat("vocabulary has ", tokens.size(), " tokens, want 1 to ", kMaxVocabulary));
  }
  Vocabulary vocabulary;
  vocabulary.tokens_ = std::move(tokens);
  vocabulary.ids_.reserve(vocabulary.tokens_.size());
  for (size_t id = 0; id < vocabulary.tokens_.size(); ++id) {
    const std::string& token = vocabulary.tokens_[id];
    if (token.size() > kMaxTokenBytes) {
      return absl::InvalidArgumentError(
          absl::StrCat("token ", id, " has ", token.size(), " bytes, the limit is ", kMaxTokenBytes));
    }
    if (!token.empty()) vocabulary.ids_.try_emplace(token, static_cast<int32_t>(id));
  }
  return vocabulary;
}

}  // namespace coterie::text
