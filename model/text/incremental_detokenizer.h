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
  // The ids that the text goes on after (an answer's prompt): the text is then what decoding all ids has more
  // than decoding these, so that a SentencePiece answer keeps its first space. Read during construction only.
  std::span<const int32_t> after = {};
};

// Token ids to text as they come. Every piece is whole characters; all of them together are Tokenizer::Decode
// of all ids (less the text of options.after), but for runs of byte tokens that are ill-formed: there the
// characters given out before the fault stay. Holds back at most three bytes (a character not yet complete)
// and what a decoder strips off the end. One per answer; not thread-safe.
class IncrementalDetokenizer {
 public:
  explicit IncrementalDetokenizer(std::shared_ptr<const Tokenizer> tokenizer,
                                  const DetokenizerOptions& options = {});

  // The text that is complete with this token, often empty. An id without a token gives nothing.
  std::string Append(int32_t id);
  // What is still held back, a character left unfinished as U+FFFD. Call once, at the end.
  std::string Flush();
  // The bytes that `id` adds to the text if it comes next: its own, which need not be a whole character.
  // Those of all tokens, each asked for before its Append, are the bytes of the text where they are UTF-8
  // (U+FFFD stands in the text for the others). A control token that is skipped has none.
  std::string BytesOf(int32_t id) const;

 private:
  void Skip(std::span<const int32_t> ids);

  std::shared_ptr<const Tokenizer> tokenizer_;
  bool skip_special_;
  text::DecoderRun run_;
};

}  // namespace coterie

#endif  // COTERIE_MODEL_TEXT_INCREMENTAL_DETOKENIZER_H_
