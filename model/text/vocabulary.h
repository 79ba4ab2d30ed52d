#ifndef COTERIE_MODEL_TEXT_VOCABULARY_H_
#define COTERIE_MODEL_TEXT_VOCABULARY_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "common/status.h"

namespace coterie::text {

// Bounds on what a tokenizer file may hold; the largest vocabularies in use have about 260,000 tokens.
inline constexpr size_t kMaxVocabulary = size_t{1} << 21;
inline constexpr size_t kMaxTokenBytes = size_t{1} << 16;

// Tokens and their ids, both ways. Ids need not be dense: an id without a token has the empty string. Of two
// ids with the same text the lookup gives the lower. Immutable; thread-safe.
class Vocabulary {
 public:
  // tokens[id]. InvalidArgument beyond the bounds above.
  static StatusOr<Vocabulary> Create(std::vector<std::string> tokens);
  Vocabulary(Vocabulary&&) = default;
  Vocabulary& operator=(Vocabulary&&) = default;
  Vocabulary(const Vocabulary&) = delete;
  Vocabulary& operator=(const Vocabulary&) = delete;

  // The largest id plus one.
  size_t size() const { return tokens_.size(); }
  // -1 when there is no such token.
  int32_t IdOf(std::string_view token) const {
    const auto it = ids_.find(ToAbsl(token));
    return it == ids_.end() ? -1 : it->second;
  }
  const std::string& TokenOf(int32_t id) const { return tokens_[static_cast<size_t>(id)]; }

 private:
  Vocabulary() = default;
  std::vector<std::string> tokens_;                      // [size]
  absl::flat_hash_map<absl::string_view, int32_t> ids_;  // keys point into tokens_
};

}  // namespace coterie::text

#endif  // COTERIE_MODEL_TEXT_VOCABULARY_H_
