#ifndef COTERIE_MODEL_TEXT_WORD_MODEL_H_
#define COTERIE_MODEL_TEXT_WORD_MODEL_H_

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "common/digest.h"
#include "common/status.h"
#include "model/text/vocabulary.h"

namespace coterie::text {

// Turns one word into token ids. Immutable as seen from outside; thread-safe.
class WordModel {
 public:
  virtual ~WordModel() = default;
  // Appends the ids of `word` (well-formed UTF-8, not empty).
  virtual Status Tokenize(std::string_view word, std::vector<int32_t>* ids) const = 0;
  // Kind, options and merges, for the tokenizer's digest (the vocabulary is hashed by its owner).
  virtual void UpdateDigest(Hasher* hasher) const = 0;
};

struct BpeOptions {
  std::vector<std::pair<std::string, std::string>> merges;  // by rank; each pair's concatenation is a token
  bool has_unk = false;   // whether a character outside the vocabulary becomes unk_id; else it is dropped
  int32_t unk_id = -1;    // -1 with has_unk: such a character is an error
  bool fuse_unk = false;  // a run of unknown characters is one unk
  bool byte_fallback = false;  // an unknown character becomes tokens <0x..> where all of its bytes have one
  bool ignore_merges = false;  // a word that is a token is that token, whatever the merges say
};

// Byte-pair encoding. `is_control[id]` marks tokens that text must never turn into (they are only ever
// parsed): merges that would make them are left out. InvalidArgument naming the merge whose parts or result
// are no tokens.
StatusOr<std::unique_ptr<const WordModel>> MakeBpe(std::shared_ptr<const Vocabulary> vocabulary,
                                                   const std::vector<bool>& is_control, BpeOptions options);

struct WordPieceOptions {
  std::string continuing_prefix = "##";
  size_t max_characters_per_word = 100;  // a longer word is one unk
  int32_t unk_id = -1;                   // -1: a word that cannot be put together is an error
};

// WordPiece: the longest token that begins the word, then the longest that goes on, ... (BERT).
StatusOr<std::unique_ptr<const WordModel>> MakeWordPiece(std::shared_ptr<const Vocabulary> vocabulary,
                                                         const std::vector<bool>& is_control,
                                                         WordPieceOptions options);

}  // namespace coterie::text

#endif  // COTERIE_MODEL_TEXT_WORD_MODEL_H_
