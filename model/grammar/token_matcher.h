#ifndef COTERIE_MODEL_GRAMMAR_TOKEN_MATCHER_H_
#define COTERIE_MODEL_GRAMMAR_TOKEN_MATCHER_H_

#include <cstdint>
#include <memory>
#include <span>

#include "common/constraint.h"
#include "common/status.h"

namespace coterie {

enum class NextTokens : uint8_t {
  kSome,  // those of the mask
  kEnd,   // none: the text is complete, and the model has no token that says so
  kNone,  // none, and the text isn't complete: the vocabulary cannot spell what must follow
};

// How far the tokens of one answer have come in their grammar. A function of the tokens alone. One thread at
// a time.
class TokenMatcher {
 public:
  virtual ~TokenMatcher() = default;
  // False where the grammar doesn't allow the token here.
  virtual bool Accept(int32_t token) = 0;
  // Writes which tokens may come next, a bit each, in words of 32 from the lowest [MaskWords(vocab_size)].
  // Tokens that end an answer are among them exactly where the text is complete.
  virtual NextTokens Fill(std::span<uint32_t> mask) = 0;
};

// Makes matchers for one model's tokens. Thread-safe.
class MatcherSource {
 public:
  virtual ~MatcherSource() = default;
  // Slow: up to seconds for a large grammar. InvalidArgument for what is not served.
  virtual StatusOr<std::unique_ptr<TokenMatcher>> Make(const Constraint& constraint) = 0;
};

}  // namespace coterie

#endif  // COTERIE_MODEL_GRAMMAR_TOKEN_MATCHER_H_
