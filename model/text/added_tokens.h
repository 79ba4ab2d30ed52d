#ifndef COTERIE_MODEL_TEXT_ADDED_TOKENS_H_
#define COTERIE_MODEL_TEXT_ADDED_TOKENS_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "common/status.h"

namespace coterie::text {

// A token that is found in the text before words are made: control tokens and words a user added.
struct AddedToken {
  std::string content;  // as in the text (normalised when `normalized`)
  int32_t id = -1;
  bool single_word = false;  // only where no word character stands beside it
  bool lstrip = false;       // takes the white space on its left along
  bool rstrip = false;       // and on its right
  bool normalized = false;   // is sought in the normalised text
  bool special = false;      // a control token: never made from text that is not trusted
};

// Which bytes of a text may be read as control tokens, as runs that cover it in order.
class TrustMap {
 public:
  static TrustMap All(bool is_trusted, size_t n_bytes);
  void Append(size_t n_bytes, bool is_trusted);
  struct Run {
    size_t end;
    bool is_trusted;
  };
  Run At(size_t pos) const;  // the run that holds byte `pos`
  bool IsTrusted(size_t begin, size_t end) const;

 private:
  std::vector<Run> runs_;
};

// Finds added tokens, the leftmost first and the longest of those. Immutable; thread-safe.
class AddedTokenFinder {
 public:
  AddedTokenFinder() = default;
  explicit AddedTokenFinder(std::vector<AddedToken> tokens);

  struct Piece {
    size_t begin;
    size_t end;
    const AddedToken* token;  // null: plain text
  };
  // Cuts `text` (well-formed UTF-8) into pieces that cover it. A special token counts only inside one trusted
  // run; one that stands inside an untrusted run is text, all of it, as in the reference's
  // encode_special_tokens.
  void Find(std::string_view text, const TrustMap& trust, std::vector<Piece>* pieces) const;

  bool empty() const { return tokens_.empty(); }

 private:
  // The longest tokens of either sort at text[pos...], the special one ending by `special_limit`; null: none.
  struct Longest {
    const AddedToken* special = nullptr;
    const AddedToken* plain = nullptr;
  };
  Longest At(std::string_view text, size_t pos, size_t special_limit) const;

  std::vector<AddedToken> tokens_;
  // A trie: (node << 8 | byte) -> node; node 0 is the root.
  absl::flat_hash_map<uint64_t, uint32_t> edges_;
  std::vector<int32_t> token_at_node_;  // index into tokens_, -1
  bool begins_[256] = {};
};

}  // namespace coterie::text

#endif  // COTERIE_MODEL_TEXT_ADDED_TOKENS_H_
