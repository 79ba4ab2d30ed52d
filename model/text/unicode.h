#ifndef COTERIE_MODEL_TEXT_UNICODE_H_
#define COTERIE_MODEL_TEXT_UNICODE_H_

#include <cstddef>
#include <string>
#include <string_view>

#include "common/status.h"
#include "common/utf8.h"

// Characters and their properties, as the reference tokenizers (Hugging Face `tokenizers`) see them. All
// functions are pure and thread-safe. Unless said otherwise `text` is well-formed UTF-8.
namespace coterie::text {

using coterie::IsWellFormed;
using coterie::kReplacement;
using coterie::ReplaceIllFormed;
using coterie::StepUtf8;
using coterie::Utf8Step;

// The character at text[*pos]; moves *pos behind it.
inline char32_t NextRune(std::string_view text, size_t* pos) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[i]); };
  const size_t i = *pos;
  const unsigned char lead = byte(i);
  if (lead < 0x80) {
    *pos = i + 1;
    return lead;
  }
  if (lead < 0xE0) {
    *pos = i + 2;
    return (char32_t(lead & 0x1F) << 6) | (byte(i + 1) & 0x3F);
  }
  if (lead < 0xF0) {
    *pos = i + 3;
    return (char32_t(lead & 0x0F) << 12) | (char32_t(byte(i + 1) & 0x3F) << 6) | (byte(i + 2) & 0x3F);
  }
  *pos = i + 4;
  return (char32_t(lead & 0x07) << 18) | (char32_t(byte(i + 1) & 0x3F) << 12) |
         (char32_t(byte(i + 2) & 0x3F) << 6) | (byte(i + 3) & 0x3F);
}

// The character that ends at text[end - 1] (end > 0); moves *end to its first byte.
char32_t PreviousRune(std::string_view text, size_t* end);

void AppendRune(char32_t rune, std::string* out);

bool IsWhitespace(char32_t rune);      // property White_Space
bool IsNumeric(char32_t rune);         // general category N
bool IsPunctuation(char32_t rune);     // ASCII punctuation and symbols, or general category P
bool IsNonspacingMark(char32_t rune);  // general category Mn
bool IsMark(char32_t rune);            // general category M
bool IsOther(char32_t rune);           // general categories Cc, Cf, Co
bool IsWord(char32_t rune);            // \w: Alphabetic, M, Nd, Pc, Join_Control

// Full lower case of one character, without context (no final sigma).
void AppendLower(char32_t rune, std::string* out);

enum class NormalForm { kC, kD, kKc, kKd };
// Unicode normalisation (UAX 15). ResourceExhausted when memory ran out.
StatusOr<std::string> Normalize(std::string_view text, NormalForm form);

}  // namespace coterie::text

#endif  // COTERIE_MODEL_TEXT_UNICODE_H_
