#ifndef COTERIE_MODEL_TEXT_INCREMENTAL_DETOKENIZER_H_
#define COTERIE_MODEL_TEXT_INCREMENTAL_DETOKENIZER_H_

#include <cstdint>
#include <memory>
#include <string>

#include "model/text/tokenizer.h"

namespace coterie {

// Token ids to text as they come. Every piece is whole characters; all of them together are Tokenizer::Decode
// of all ids, but for runs of byte tokens that are ill-formed: there the characters given out before the
// fault stay. Holds back at most three bytes (a character not yet complete) and what a decoder strips off the
// end. One per answer; not thread-safe.
class IncrementalDetokenizer {
 public:
  explicit IncrementalDetokenizer(std::shared_ptr<const Tokenizer> tokenizer, bool skip_special = true);

  // The text that is complete with this token, often empty. An id without a token gives nothing.
  std::string Append(int32_t id);
  // What is still held back, a character left unfinished as U+FFFD. Call once, at the end.
  std::string Flush();

 private:
  std::shared_ptr<const Tokenizer> tokenizer_;
  bool skip_special_;
  text::DecoderRun run_;
};

}  // namespace coterie

#endif  // COTERIE_MODEL_TEXT_INCREMENTAL_DETOKENIZER_H_
