#ifndef COTERIE_MODEL_TEXT_PRE_KINDS_H_
#define COTERIE_MODEL_TEXT_PRE_KINDS_H_

#include <string>
#include <string_view>
#include <vector>

#include "common/status.h"
#include "model/text/normalizer.h"
#include "model/text/pre_tokenizer.h"

// How byte-level GGUF files cut words: tokenizer.ggml.pre names it. Names and expressions are those under
// which converters write the tokenizers of known models; the expressions are the tokenizers' own.
namespace coterie::text {

struct PreKind {
  NormalizerPtr normalizer;  // null: none
  PreTokenizerPtr pre_tokenizer;
  bool ignore_merges = false;  // see BpeOptions
  bool add_bos = false;        // when the file does not say
};

// Unimplemented naming those known.
StatusOr<PreKind> MakePreKind(std::string_view name);

// One name for each way to cut words, aliases left out.
std::vector<std::string_view> PreKindNames();

}  // namespace coterie::text

#endif  // COTERIE_MODEL_TEXT_PRE_KINDS_H_
