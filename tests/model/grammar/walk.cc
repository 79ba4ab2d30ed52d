#include "tests/model/grammar/walk.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "kernels/batch.h"

namespace coterie {

std::vector<std::string> WalkVocabulary() {
  std::vector<std::string> tokens = {""};
  for (int byte = 0; byte < 256; ++byte) tokens.push_back(std::string(1, static_cast<char>(byte)));
  for (const char* token :
       {"{\"",  "\"}",      "\": ", "\": \"", "\", \"", ", \"", "[]",   "{}",  "}}",    "]}",
        "\"]",  "null",     "true", "false",  "12",     "00",   "-1",   "0.5", "e+1",   "\\n",
        "\\\"", "\\u00",    "the",  " the",   "name",   "id",   "va",   "lue", "é",     "漢字",
        "😀",    "\xF0\x9F", "ab",   "abc",    "xyz",    "  ",   "\n\n", "\\",  "\"\"",  "2024-",
        "T1",   ":00",      "@a",   ".com",   ", ",     "[1",   "[{\"", "},",  "}, {\""}) {
    tokens.push_back(token);
  }
  return tokens;
}

Walk WalkAtRandom(TokenMatcher* matcher, const std::vector<std::string>& vocabulary, int max_tokens,
                  std::mt19937_64* random) {
  Walk walk;
  std::vector<uint32_t> mask(static_cast<size_t>(MaskWords(static_cast<int>(vocabulary.size()))));
  std::vector<int32_t> allowed;
  while (std::ssize(walk.tokens) < max_tokens) {
    const NextTokens next = matcher->Fill(mask);
    if (next == NextTokens::kEnd) {
      walk.ended = true;
      break;
    }
    EXPECT_EQ(next, NextTokens::kSome) << "stuck behind " << walk.text;
    if (next != NextTokens::kSome) break;
    allowed.clear();
    const bool closing = std::ssize(walk.tokens) > max_tokens / 2;
    for (size_t token = 0; token < vocabulary.size(); ++token) {
      if (MaskAllows(mask, token)) allowed.push_back(static_cast<int32_t>(token));
    }
    int32_t token = allowed[(*random)() % allowed.size()];
    if (MaskAllows(mask, kEndToken) && (closing || (*random)() % 4 == 0)) token = kEndToken;
    if (closing && token != kEndToken) {
      for (const char* closes : {"]}", "\"}", "\"]", "}", "]", "\"", "null", "1"}) {
        const auto found = std::find_if(allowed.begin(), allowed.end(), [&](int32_t t) {
          return vocabulary[static_cast<size_t>(t)] == closes;
        });
        if (found == allowed.end() || (*random)() % 8 == 0) continue;
        token = *found;
        break;
      }
    }
    EXPECT_TRUE(matcher->Accept(token)) << token << " behind " << walk.text;
    if (token == kEndToken) {
      walk.ended = true;
      break;
    }
    walk.text += vocabulary[static_cast<size_t>(token)];
    walk.tokens.push_back(token);
  }
  return walk;
}

}  // namespace coterie
