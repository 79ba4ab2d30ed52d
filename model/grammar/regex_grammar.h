#ifndef COTERIE_MODEL_GRAMMAR_REGEX_GRAMMAR_H_
#define COTERIE_MODEL_GRAMMAR_REGEX_GRAMMAR_H_

#include <string>
#include <string_view>

#include "common/status.h"

namespace coterie::grammar {

inline constexpr size_t kMaxRegexBytes = 4096;
inline constexpr int kMaxRegexDepth = 32;  // groups within groups
// Characters and classes, each as often as its repetitions say: "(ab){1,50}" has 100.
inline constexpr int kMaxRegexSize = 4000;
inline constexpr int kMaxRepetitions = 1000;

enum class RegexText {
  kPlain,       // the text itself
  kJsonString,  // what stands between the quotes of a JSON string, with its escapes
};

// The expression of a grammar for the texts that match the whole of `regex`. Served: characters, `.` (all but
// line feed), classes, \d \w \s (of ASCII) and their complements, groups, alternatives, `* + ? {m} {m,}
// {m,n}` also with a
// `?` behind (the same texts), `^` and `$` at the ends. InvalidArgument naming what is not (lookaround, back
// references, \b, flags, \p) or which limit is passed.
StatusOr<std::string> RegexGrammar(std::string_view regex, RegexText text);

}  // namespace coterie::grammar

#endif  // COTERIE_MODEL_GRAMMAR_REGEX_GRAMMAR_H_
