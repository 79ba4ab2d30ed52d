#include "model/grammar/class_escape.h"

#include <utf8proc.h>

#include <cctype>
#include <functional>

namespace coterie::grammar {
namespace {

constexpr char32_t kFirstBehindAscii = 0x80;

CharSet CharactersWhere(const std::function<bool(utf8proc_category_t)>& holds) {
  CharSet set;
  std::optional<char32_t> begin;
  for (char32_t c = kFirstBehindAscii; c <= kLastCharacter + 1; ++c) {
    const bool in = c <= kLastCharacter && holds(utf8proc_category(static_cast<utf8proc_int32_t>(c)));
    if (in && !begin) begin = c;
    if (!in && begin) {
      set.Add(*begin, c - 1);
      begin.reset();
    }
  }
  return set;
}

ClassEscape Digits() {
  ClassEscape digits;
  digits.surely.Add('0', '9');
  // Characters that this version of Unicode does not know may be digits of a later one.
  digits.perhaps = CharactersWhere(
      [](utf8proc_category_t is) { return is == UTF8PROC_CATEGORY_ND || is == UTF8PROC_CATEGORY_CN; });
  digits.perhaps.Add(digits.surely);
  return digits;
}

ClassEscape Words() {
  ClassEscape words;
  words.surely.Add('0', '9');
  words.surely.Add('a', 'z');
  words.surely.Add('A', 'Z');
  words.surely.Add('_', '_');
  // Beyond letters, marks and numbers: connecting punctuation (.NET), joiners and letters in circles (Perl).
  words.perhaps = CharactersWhere([](utf8proc_category_t is) {
    return is <= UTF8PROC_CATEGORY_NO || is == UTF8PROC_CATEGORY_PC || is == UTF8PROC_CATEGORY_CF ||
           is == UTF8PROC_CATEGORY_SO;
  });
  words.perhaps.Add(words.surely);
  return words;
}

ClassEscape Spaces() {
  ClassEscape spaces;
  spaces.surely.Add(' ', ' ');
  spaces.surely.Add('\t', '\r');
  spaces.perhaps = CharactersWhere([](utf8proc_category_t is) {
    return is == UTF8PROC_CATEGORY_ZS || is == UTF8PROC_CATEGORY_ZL || is == UTF8PROC_CATEGORY_ZP;
  });
  spaces.perhaps.Add(spaces.surely);
  spaces.perhaps.Add(0x1C, 0x1F);      // Python
  spaces.perhaps.Add(0x85, 0x85);      // Unicode's property, not its category
  spaces.perhaps.Add(0x180E, 0x180E);  // a space before Unicode 6.3
  spaces.perhaps.Add(0xFEFF, 0xFEFF);  // ECMA 262
  return spaces;
}

}  // namespace

std::optional<ClassEscape> ClassEscapeOf(char letter) {
  static const auto& digits = *new ClassEscape(Digits());
  static const auto& words = *new ClassEscape(Words());
  static const auto& spaces = *new ClassEscape(Spaces());
  const auto byte = static_cast<unsigned char>(letter);
  const auto lower = static_cast<char>(std::tolower(byte));
  if (lower != 'd' && lower != 'w' && lower != 's') return std::nullopt;
  const ClassEscape& named = lower == 'd' ? digits : lower == 'w' ? words : spaces;
  if (!std::isupper(byte)) return named;
  return ClassEscape{named.perhaps.Complement(), named.surely.Complement()};
}

}  // namespace coterie::grammar
