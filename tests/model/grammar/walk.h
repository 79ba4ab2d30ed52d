#ifndef COTERIE_TESTS_MODEL_GRAMMAR_WALK_H_
#define COTERIE_TESTS_MODEL_GRAMMAR_WALK_H_

#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "model/grammar/token_matcher.h"

namespace coterie {

inline constexpr int32_t kEndToken = 0;
// A small vocabulary like a byte-level one: the end token, every byte, and tokens that reach across the
// borders of JSON's parts.
std::vector<std::string> WalkVocabulary();

struct Walk {
  std::string text;
  std::vector<int32_t> tokens;
  bool ended = false;  // else it came to `max_tokens`
};

// An answer of a model that chooses anything its grammar allows. Behind half of `max_tokens` it prefers what
// closes.
Walk WalkAtRandom(TokenMatcher* matcher, const std::vector<std::string>& vocabulary, int max_tokens,
                  std::mt19937_64* random);

}  // namespace coterie

#endif  // COTERIE_TESTS_MODEL_GRAMMAR_WALK_H_
