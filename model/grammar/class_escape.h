#ifndef COTERIE_MODEL_GRAMMAR_CLASS_ESCAPE_H_
#define COTERIE_MODEL_GRAMMAR_CLASS_ESCAPE_H_

#include <optional>

#include "model/grammar/char_set.h"

namespace coterie::grammar {

// \d, \w, \s or a complement. Those who check an answer read them differently: ECMA 262 counts the digits and
// words of ASCII and the spaces of Unicode, Python, PCRE2 and .NET count Unicode's, each a little otherwise.
// An answer must be right for all of them.
struct ClassEscape {
  CharSet surely;   // a member by every reading
  CharSet perhaps;  // by one of them at least: what a negated class must leave out
};

// Nothing for a letter that names no class.
std::optional<ClassEscape> ClassEscapeOf(char letter);

}  // namespace coterie::grammar

#endif  // COTERIE_MODEL_GRAMMAR_CLASS_ESCAPE_H_
