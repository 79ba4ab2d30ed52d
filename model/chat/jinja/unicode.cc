#include "model/chat/jinja/unicode.h"

#include <utf8proc.h>

#include <algorithm>

namespace coterie::jinja {
namespace {

utf8proc_category_t Category(char32_t c) { return utf8proc_category(static_cast<utf8proc_int32_t>(c)); }

bool ContainsChar(std::string_view chars, char32_t c) {
  for (size_t i = 0; i < chars.size();) {
    if (NextChar(chars, &i) == c) return true;
  }
  return false;
}

// Start of the character that ends before byte `end`.
size_t PreviousChar(std::string_view s, size_t end) {
  do {
    --end;
  } while (end > 0 && (static_cast<uint8_t>(s[end]) & 0xC0) == 0x80);
  return end;
}

}  // namespace

char32_t NextChar(std::string_view s, size_t* position) {
  const auto byte = [&](size_t i) { return static_cast<char32_t>(static_cast<uint8_t>(s[i])); };
  const size_t i = *position;
  const char32_t first = byte(i);
  if (first < 0x80) {
    *position = i + 1;
    return first;
  }
  const size_t n = first >= 0xF0 ? 4 : first >= 0xE0 ? 3 : 2;
  if (i + n > s.size()) {  // cannot happen in valid UTF-8; never read beyond the end all the same
    *position = s.size();
    return 0xFFFD;
  }
  char32_t c = n == 4 ? first & 0x07 : n == 3 ? first & 0x0F : first & 0x1F;
  for (size_t k = 1; k < n; ++k) c = c << 6 | (byte(i + k) & 0x3F);
  *position = i + n;
  return c;
}

size_t CountChars(std::string_view s) {
  size_t n = 0;
  for (const char c : s) n += (static_cast<uint8_t>(c) & 0xC0) != 0x80;
  return n;
}

size_t ByteOfChar(std::string_view s, size_t char_index) {
  size_t i = 0;
  while (i < s.size() && char_index > 0) {
    NextChar(s, &i);
    --char_index;
  }
  return i;
}

void AppendUtf8(char32_t c, std::string* out) {
  utf8proc_uint8_t buffer[4];
  const utf8proc_ssize_t n = utf8proc_encode_char(static_cast<utf8proc_int32_t>(c), buffer);
  out->append(reinterpret_cast<const char*>(buffer), static_cast<size_t>(n));
}

bool IsSpace(char32_t c) {
  if (c < 0x80) return c == ' ' || (c >= 9 && c <= 13) || (c >= 0x1C && c <= 0x1F);
  if (c == 0x85) return true;
  const auto category = Category(c);
  return category == UTF8PROC_CATEGORY_ZS || category == UTF8PROC_CATEGORY_ZL ||
         category == UTF8PROC_CATEGORY_ZP;
}

bool IsAlpha(char32_t c) {
  const auto category = Category(c);
  return category >= UTF8PROC_CATEGORY_LU && category <= UTF8PROC_CATEGORY_LO;
}

bool IsDecimal(char32_t c) { return Category(c) == UTF8PROC_CATEGORY_ND; }

bool IsNumeric(char32_t c) {
  const auto category = Category(c);
  return category >= UTF8PROC_CATEGORY_ND && category <= UTF8PROC_CATEGORY_NO;
}

bool IsCased(char32_t c) { return IsUpper(c) || IsLower(c) || Category(c) == UTF8PROC_CATEGORY_LT; }

bool IsUpper(char32_t c) { return Category(c) == UTF8PROC_CATEGORY_LU; }

bool IsLower(char32_t c) { return Category(c) == UTF8PROC_CATEGORY_LL; }

bool IsPrintable(char32_t c) {
  if (c == ' ') return true;
  switch (Category(c)) {
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_CS:
    case UTF8PROC_CATEGORY_CO:
    case UTF8PROC_CATEGORY_CN:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP:
    case UTF8PROC_CATEGORY_ZS:
      return false;
    default:
      return true;
  }
}

std::string Upper(char32_t c) {
  if (c == 0xDF) return "SS";
  std::string out;
  AppendUtf8(static_cast<char32_t>(utf8proc_toupper(static_cast<utf8proc_int32_t>(c))), &out);
  return out;
}

std::string Lower(char32_t c) {
  std::string out;
  AppendUtf8(static_cast<char32_t>(utf8proc_tolower(static_cast<utf8proc_int32_t>(c))), &out);
  return out;
}

std::string CaseFold(char32_t c) {
  utf8proc_int32_t folded[8];
  int boundary = 0;
  const utf8proc_ssize_t n =
      utf8proc_decompose_char(static_cast<utf8proc_int32_t>(c), folded, 8, UTF8PROC_CASEFOLD, &boundary);
  std::string out;
  for (utf8proc_ssize_t i = 0; i < std::min<utf8proc_ssize_t>(n, 8); ++i) {
    AppendUtf8(static_cast<char32_t>(folded[i]), &out);
  }
  return out;
}

ByteRange Strip(std::string_view s, std::string_view chars, bool left, bool right) {
  const auto goes = [&](char32_t c) { return chars.empty() ? IsSpace(c) : ContainsChar(chars, c); };
  size_t begin = 0;
  size_t end = s.size();
  while (left && begin < end) {
    size_t next = begin;
    if (!goes(NextChar(s, &next))) break;
    begin = next;
  }
  while (right && end > begin) {
    size_t last = PreviousChar(s, end);
    size_t position = last;
    if (!goes(NextChar(s, &position))) break;
    end = last;
  }
  return {begin, end};
}

}  // namespace coterie::jinja
