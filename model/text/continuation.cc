#include "model/text/continuation.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "model/text/incremental_detokenizer.h"
#include "model/text/unicode.h"

namespace coterie {
namespace {

// Encodes prompt and text as one and returns the ids behind those of the prompt; nothing where the result
// does not begin with the prompt's ids.
std::optional<std::vector<int32_t>> RestOfWhole(const Tokenizer& tokenizer, const EncodedPrompt& prompt,
                                                std::string_view text, size_t max_tokens) {
  std::vector<TextPiece> pieces(prompt.pieces.begin(), prompt.pieces.end());
  pieces.push_back({text, /*is_trusted=*/false});
  EncodeOptions options;
  options.add_special = prompt.add_special;
  options.max_tokens = prompt.ids.size() + max_tokens;
  const StatusOr<std::vector<int32_t>> whole = tokenizer.EncodePieces(pieces, options);
  if (!whole.ok() || whole->size() <= prompt.ids.size()) return std::nullopt;
  if (!std::equal(prompt.ids.begin(), prompt.ids.end(), whole->begin())) return std::nullopt;
  return std::vector<int32_t>(whole->begin() + static_cast<ptrdiff_t>(prompt.ids.size()), whole->end());
}

}  // namespace

std::string DecodeContinuation(const std::shared_ptr<const Tokenizer>& tokenizer,
                               std::span<const int32_t> prompt_ids, std::span<const int32_t> ids) {
  IncrementalDetokenizer detokenizer(tokenizer, {.after = prompt_ids});
  std::string text;
  for (const int32_t id : ids) text += detokenizer.Append(id);
  return text + detokenizer.Flush();
}

StatusOr<std::vector<int32_t>> EncodeContinuation(const std::shared_ptr<const Tokenizer>& tokenizer,
                                                  const EncodedPrompt& prompt, std::string_view text,
                                                  size_t max_tokens) {
  const std::string whole_text = text::ReplaceIllFormed(text);  // as tokenizers read it
  const auto gives_text = [&](std::span<const int32_t> ids) {
    return DecodeContinuation(tokenizer, prompt.ids, ids) == whole_text;
  };
  std::optional<std::vector<int32_t>> rest = RestOfWhole(*tokenizer, prompt, text, max_tokens);
  if (rest && gives_text(*rest)) return *std::move(rest);
  ASSIGN_OR_RETURN(std::vector<int32_t> alone,
                   tokenizer->Encode(text, {.continues = true, .max_tokens = max_tokens}));
  // Where neither decodes to the text (normalisation changes it, say), `rest` is better: it was encoded in
  // its context.
  if (rest && !gives_text(alone)) return *std::move(rest);
  return alone;
}

}  // namespace coterie
