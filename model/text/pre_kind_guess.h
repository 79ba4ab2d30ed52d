#ifndef COTERIE_MODEL_TEXT_PRE_KIND_GUESS_H_
#define COTERIE_MODEL_TEXT_PRE_KIND_GUESS_H_

#include <string>
#include <string_view>

#include "common/status.h"
#include "model/text/tokenizer_spec.h"

namespace coterie::text {

// How a byte-level GGUF file cuts text into words, guessed where the file does not say (files older than
// tokenizer.ggml.pre, and those of converters that did not know the model).
struct PreKindGuess {
  std::string name;  // for MakePreKind
  enum class Basis {
    kKnown,   // the vocabulary of a known model: certain
    kFits,    // the known kind that cuts the fewest tokens of the vocabulary apart
    kNothing  // too few tokens to tell; GPT-2's, the oldest kind
  };
  Basis basis = Basis::kNothing;

  // What to tell people; `said` is the file's own value.
  std::string Warning(std::string_view said) const;
};

// The vocabulary of a known model is recognised by tokens that have these ids in no other. Otherwise the
// guess rests on this: every token was formed inside one word when the vocabulary was trained, so a kind that
// cuts many tokens apart is not the one. (Of Qwen2's vocabulary 1.3 % are cut apart by Qwen2's own
// expression, 0.005 % by that of Qwen3.5, and 17.7 % by GPT-2's.) Takes about 0.3 s for a large vocabulary.
StatusOr<PreKindGuess> GuessPreKind(const TokenizerSpec& spec);

}  // namespace coterie::text

#endif  // COTERIE_MODEL_TEXT_PRE_KIND_GUESS_H_
