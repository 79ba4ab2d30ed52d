#ifndef COTERIE_TESTS_MODEL_TEXT_TEXT_TESTING_H_
#define COTERIE_TESTS_MODEL_TEXT_TEXT_TESTING_H_

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "model/text/tokenizer.h"
#include "model/text/tokenizer_spec.h"

namespace coterie {

// The byte alphabet's character for each byte, as the tokens of a byte-level vocabulary write it.
std::string ByteCharacter(unsigned char byte);

// A byte-level vocabulary: two control tokens (<|im_start|> 0, <|im_end|> 1), a user-defined one (<tool> 2),
// the 256 bytes, then what the merges make.
TokenizerSpec SmallByteLevelSpec(const std::string& pre, const std::vector<std::string>& merges);

// A SentencePiece-like vocabulary: <unk> 0, <s> 1, </s> 2, the 256 byte tokens (3-258), then `pieces` with
// falling scores.
TokenizerSpec SmallSentencePieceSpec(const std::vector<std::string>& pieces);

// A WordPiece tokenizer.json with BERT's normalizer and pre-tokenizer: [PAD] [UNK] [CLS] [SEP], then
// `pieces`.
std::string SmallWordPieceJson(const std::vector<std::string>& pieces);

}  // namespace coterie

#endif  // COTERIE_TESTS_MODEL_TEXT_TEXT_TESTING_H_
