#ifndef COTERIE_MODEL_TEXT_TOKENIZER_PARTS_H_
#define COTERIE_MODEL_TEXT_TOKENIZER_PARTS_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "model/text/added_tokens.h"
#include "model/text/normalizer.h"
#include "model/text/pre_tokenizer.h"
#include "model/text/token_decoder.h"
#include "model/text/tokenizer.h"
#include "model/text/word_model.h"

namespace coterie::text {

// The parts of a Tokenizer, read from GGUF metadata or tokenizer.json.
struct TokenizerParts {
  std::shared_ptr<const Vocabulary> vocabulary;  // with the added tokens
  std::vector<bool> is_special;                  // [vocabulary->size()]: control tokens
  std::vector<bool> is_added;                    // likewise: all of added_tokens
  NormalizerPtr normalizer;                      // null: none
  PreTokenizerPtr pre_tokenizer;                 // null: none, a text is one word
  std::unique_ptr<const WordModel> model;
  std::vector<AddedToken> added_tokens;
  // Added tokens whose normalised form differs: it is what decoding starts from.
  absl::flat_hash_map<int32_t, std::string> normalized_content;
  AddedTokenFinder raw_finder;         // added tokens sought in the text as it came
  AddedTokenFinder normalized_finder;  // and after normalisation
  std::vector<int32_t> prefix;         // put before a text when add_special
  std::vector<int32_t> suffix;         // and behind it
  std::vector<DecoderStep> decoder_steps;
  std::unique_ptr<const TokenDecoder> decoder;
  SpecialTokenIds special_ids;
  std::vector<std::string> warnings;  // see Tokenizer::warnings

  // Sets is_special, is_added and the finders from added_tokens (whose ids lie in the vocabulary), and the
  // decoder from its steps. Needs `normalizer`, which tokens sought in normalised text pass through.
  Status Finish();
};

}  // namespace coterie::text

#endif  // COTERIE_MODEL_TEXT_TOKENIZER_PARTS_H_
