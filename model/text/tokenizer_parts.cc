#include "model/text/tokenizer_parts.h"

#include <utility>

#include "common/quoted.h"

namespace coterie::text {
namespace {

constexpr size_t kMaxAddedTokenBytes = 1024;

}  // namespace

Status TokenizerParts::Finish() {
  is_special.assign(vocabulary->size(), false);
  is_added.assign(vocabulary->size(), false);
  std::vector<AddedToken> raw;
  std::vector<AddedToken> normalized;
  for (const AddedToken& token : added_tokens) {
    if (token.content.empty() || token.content.size() > kMaxAddedTokenBytes) {
      return absl::InvalidArgumentError(absl::StrCat("added token ", token.id, " has ", token.content.size(),
                                                     " bytes, want 1 to ", kMaxAddedTokenBytes));
    }
    if (token.id < 0 || static_cast<size_t>(token.id) >= vocabulary->size()) {
      return absl::InvalidArgumentError(absl::StrCat("added token ", Quoted(token.content), " has id ",
                                                     token.id, ", the vocabulary has ", vocabulary->size()));
    }
    is_added[static_cast<size_t>(token.id)] = true;
    if (token.special) is_special[static_cast<size_t>(token.id)] = true;
    if (!token.normalized) {
      raw.push_back(token);
      continue;
    }
    NormalizedText content{token.content};
    if (normalizer != nullptr) RETURN_IF_ERROR(normalizer->Apply(&content));
    if (content.text.empty()) {  // the reference would find it between any two characters
      return absl::InvalidArgumentError(
          absl::StrCat("added token ", Quoted(token.content), " is normalised to nothing"));
    }
    if (content.text != token.content) normalized_content[token.id] = content.text;
    normalized.push_back(token);
    normalized.back().content = std::move(content.text);
  }
  raw_finder = AddedTokenFinder(std::move(raw));
  normalized_finder = AddedTokenFinder(std::move(normalized));
  ASSIGN_OR_RETURN(TokenDecoder made, TokenDecoder::Create(decoder_steps));
  decoder = std::make_unique<const TokenDecoder>(std::move(made));
  return absl::OkStatus();
}

}  // namespace coterie::text
