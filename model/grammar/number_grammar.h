#ifndef COTERIE_MODEL_GRAMMAR_NUMBER_GRAMMAR_H_
#define COTERIE_MODEL_GRAMMAR_NUMBER_GRAMMAR_H_

#include <cstdint>
#include <optional>
#include <string>

namespace coterie::grammar {

// Integers of an answer have at most 18 digits, so that they fit everybody's 64 bits.
inline constexpr int64_t kMaxInteger = 999'999'999'999'999'999;
// Bounds of numbers that may have a fraction are integers up to this: with the six digits that such a
// fraction has, all are exact enough in a double not to be rounded onto a bound.
inline constexpr int64_t kMaxNumberBound = 1'000'000'000;

struct NumberBounds {
  std::optional<int64_t> least, most;
  bool above = false, below = false;  // least, most are themselves out

  bool empty() const { return !least && !most; }
};

// Expressions of a grammar for JSON's numbers within the bounds; nothing where there is none.
std::optional<std::string> IntegerGrammar(const NumberBounds& bounds);
std::optional<std::string> NumberGrammar(const NumberBounds& bounds);

}  // namespace coterie::grammar

#endif  // COTERIE_MODEL_GRAMMAR_NUMBER_GRAMMAR_H_
