#ifndef COTERIE_MODEL_CHAT_JINJA_UNICODE_H_
#define COTERIE_MODEL_CHAT_JINJA_UNICODE_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "model/chat/jinja/text.h"

// Python's view of text (code points and their properties) over UTF-8. Everything here takes valid UTF-8.
namespace coterie::jinja {

// The code point at byte `*position`, which moves behind it.
char32_t NextChar(std::string_view s, size_t* position);
size_t CountChars(std::string_view s);
// Byte offset of the character with this index; s.size() when the text is shorter.
size_t ByteOfChar(std::string_view s, size_t char_index);
void AppendUtf8(char32_t c, std::string* out);

bool IsSpace(char32_t c);    // str.isspace: also what strip() and \s take
bool IsAlpha(char32_t c);    // str.isalpha
bool IsDecimal(char32_t c);  // category Nd: str.isdecimal
bool IsNumeric(char32_t c);  // categories Nd, Nl and No: nearly str.isnumeric
bool IsCased(char32_t c);
bool IsUpper(char32_t c);
bool IsLower(char32_t c);
bool IsPrintable(char32_t c);  // what repr() shows as it is

// Full for U+00DF, simple mappings (one code point to one) for the rest.
std::string Upper(char32_t c);
std::string Lower(char32_t c);
std::string CaseFold(char32_t c);  // full: str.casefold

// Every character mapped by `map` (char32_t, index of the character) -> std::string; the result keeps each
// character's provenance, and is markup if `text` is.
template <typename Map>
Text MapChars(const Text& text, Map map) {
  Text out;
  out.set_markup(text.markup());
  out.Reserve(text.size());
  size_t position = 0;
  for (size_t index = 0; position < text.size(); ++index) {
    const bool trusted = text.trusted(position);
    out.Append(map(NextChar(text.bytes(), &position), index), trusted);
  }
  return out;
}

// Bytes [begin, end) left by strip(); `chars` empty strips white space.
struct ByteRange {
  size_t begin;
  size_t end;
};
ByteRange Strip(std::string_view s, std::string_view chars, bool left, bool right);

}  // namespace coterie::jinja

#endif  // COTERIE_MODEL_CHAT_JINJA_UNICODE_H_
