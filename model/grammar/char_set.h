#ifndef COTERIE_MODEL_GRAMMAR_CHAR_SET_H_
#define COTERIE_MODEL_GRAMMAR_CHAR_SET_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace coterie::grammar {

inline constexpr char32_t kLastCharacter = 0x10FFFF;

// A set of Unicode characters: U+0001 to U+10FFFF without surrogates.
class CharSet {
 public:
  CharSet() = default;
  static CharSet Of(char32_t first, char32_t last);
  static CharSet All();

  void Add(char32_t first, char32_t last);
  void Add(const CharSet& other);
  void Remove(char32_t first, char32_t last);
  CharSet Complement() const;

  bool Contains(char32_t c) const;
  bool empty() const { return ranges_.empty(); }
  // The only character, or 0 when there are more or none.
  char32_t Single() const;
  // As a character class of a grammar; the set isn't empty.
  std::string ToGrammar() const;

 private:
  void Normalize();
  std::vector<std::pair<char32_t, char32_t>> ranges_;  // ascending, neither overlapping nor touching
};

// Text as a string literal of a grammar: `text` is well-formed UTF-8 without U+0000.
std::string Literal(std::string_view text);

}  // namespace coterie::grammar

#endif  // COTERIE_MODEL_GRAMMAR_CHAR_SET_H_
