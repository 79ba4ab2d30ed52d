#ifndef COTERIE_MODEL_TEXT_CONTINUATION_H_
#define COTERIE_MODEL_TEXT_CONTINUATION_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "common/status.h"
#include "model/text/tokenizer.h"

// The seam between a prompt and the text that goes on after it.
namespace coterie {

// A prompt and its ids: EncodePieces(pieces, {.add_special = add_special}) gave `ids`.
struct EncodedPrompt {
  std::span<const TextPiece> pieces;
  bool add_special = false;
  std::span<const int32_t> ids;
};

// The text that `ids` add to a prompt: what decoding all ids has more than decoding the prompt's.
std::string DecodeContinuation(const std::shared_ptr<const Tokenizer>& tokenizer,
                               std::span<const int32_t> prompt_ids, std::span<const int32_t> ids);

// The ids of `text` (never trusted) as it goes on after the prompt, whose own ids stay as they are; nothing
// is put before or behind it.
//
// They are the rest of the ids of prompt and text as one text wherever those begin with the prompt's ids:
// what a model that was trained on whole texts would go on with. Where a token would reach across the seam
// instead ("Say" and "ing" may be one), or the tokenizer would put a space of its own there (SentencePiece
// behind a control token), they are the ids of the text by itself, without SentencePiece's space before it.
//
// So DecodeContinuation(prompt, ids) is `text` again (bytes that are no UTF-8 as U+FFFD), unless the
// tokenizer's normalisation changes the text or it holds characters that the tokenizer does not know; and
// text generated after the prompt gives the ids it was generated as wherever those are the usual ones for
// their text (a model may also spell a word with more tokens than it needs: its text then cannot tell).
//
// Errors are those of Encode; `max_tokens` counts the text's ids alone.
StatusOr<std::vector<int32_t>> EncodeContinuation(const std::shared_ptr<const Tokenizer>& tokenizer,
                                                  const EncodedPrompt& prompt, std::string_view text,
                                                  size_t max_tokens);

}  // namespace coterie

#endif  // COTERIE_MODEL_TEXT_CONTINUATION_H_
