#ifndef COTERIE_MODEL_TEXT_INCREMENTAL_DETOKENIZER_H_
#define COTERIE_MODEL_TEXT_INCREMENTAL_DETOKENIZER_H_

#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "model/text/tokenizer.h"

namespace coterie {

struct DetokenizerOptions {
  bool skip_special = true;  // leave control tokens out of the text
  // The ids before the first one appended (an answer's prompt). The text then is what decoding all ids adds
  // to decoding these: so a SentencePiece answer keeps its first space. Read during construction only.
  std::span<const int32_t> after = {};
};

// Token ids to text as they come. Every piece consists of whole UTF-8 characters. All pieces together are
// Tokenizer::Decode of all ids, less the text of options.after; only a run of byte tokens that is ill-formed
// differs: Decode replaces all of it, here the characters before the fault have been given out already. Holds
// back at most three bytes (a character not yet complete) and what a decoder strips from the end;
// token_decoder.h does that. One per answer; not thread-safe.
class IncrementalDetokenizer {
 public:
  explicit IncrementalDetokenizer(std::shared_ptr<const Tokenizer> tokenizer,
                                  const DetokenizerOptions& options = {});

  // The text that is complete with this token, often empty. An id without a token gives nothing.
  std::string Append(int32_t id);
  // What is still held back, a character left unfinished as U+FFFD. Call once, at the end.
  std::string Flush();
  // The bytes that `id` adds to the text if it comes next; they need not end a UTF-8 character. Asked before
  // each Append, the bytes of all ids together are the text, with ill-formed bytes where the text has U+FFFD.
  // Empty for a control token that is skipped.
  std::string BytesOf(int32_t id) const;

 private:
  void Skip(std::span<const int32_t> ids);

  std::shared_ptr<const Tokenizer> tokenizer_;
  bool skip_special_;
  text::TokenDecoderRun run_;
};

}  // namespace coterie

#endif  // COTERIE_MODEL_TEXT_INCREMENTAL_DETOKENIZER_H_
