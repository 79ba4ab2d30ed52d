#include "model/chat/jinja/tag_lexer.h"

#include <charconv>

#include "model/chat/jinja/unicode.h"

namespace coterie::jinja {
namespace {

Status LexError(int line, std::string_view message) {
  return absl::InvalidArgumentError(absl::StrCat("line ", line, ": ", ToAbsl(message)));
}

bool IsDigit(char c) { return c >= '0' && c <= '9'; }
bool IsNameStart(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'; }

int HexDigit(char c) {
  if (IsDigit(c)) return c - '0';
  c = static_cast<char>(c | 0x20);
  return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

// Reads `n` hexadecimal digits behind the escape letter at body[*i].
StatusOr<char32_t> HexEscape(std::string_view body, size_t* i, size_t n, int line) {
  if (*i + n >= body.size()) return LexError(line, "a \\x, \\u or \\U escape is cut short");
  char32_t c = 0;
  for (size_t k = 1; k <= n; ++k) {
    const int digit = HexDigit(body[*i + k]);
    if (digit < 0) return LexError(line, "a \\x, \\u or \\U escape has a digit that is not hexadecimal");
    c = c << 4 | static_cast<char32_t>(digit);
  }
  if (c > 0x10FFFF || (c >= 0xD800 && c <= 0xDFFF))
    return LexError(line, "an escape is no Unicode character");
  *i += n;
  return c;
}

// Python's string escapes; an unknown one stays as written.
StatusOr<std::string> Unescape(std::string_view body, int line) {
  std::string out;
  for (size_t i = 0; i < body.size(); ++i) {
    if (body[i] != '\\' || i + 1 == body.size()) {
      out += body[i];
      continue;
    }
    const char c = body[++i];
    static constexpr std::string_view kLetters = "abfnrtv\\'\"";
    static constexpr std::string_view kMeanings = "\a\b\f\n\r\t\v\\'\"";
    if (const size_t k = kLetters.find(c); k != std::string_view::npos) {
      out += kMeanings[k];
    } else if (c == '\n') {
      continue;
    } else if (c == 'x' || c == 'u' || c == 'U') {
      ASSIGN_OR_RETURN(const char32_t code, HexEscape(body, &i, c == 'x' ? 2 : c == 'u' ? 4 : 8, line));
      AppendUtf8(code, &out);
    } else if (c >= '0' && c <= '7') {
      char32_t code = 0;
      size_t n = 0;
      for (; n < 3 && i + n < body.size() && body[i + n] >= '0' && body[i + n] <= '7'; ++n) {
        code = code * 8 + static_cast<char32_t>(body[i + n] - '0');
      }
      i += n - 1;
      AppendUtf8(code, &out);
    } else if (c == 'N') {
      return LexError(line, "named characters (\\N{...}) are not supported");
    } else {
      out += '\\';
      out += c;
    }
  }
  return out;
}

}  // namespace

// Names may have letters and digits of any script, as in Python.
size_t TagLexer::EndOfName(size_t begin) const {
  size_t end = begin;
  while (end < source_.size()) {
    size_t next = end;
    const char32_t c = NextChar(source_, &next);
    const bool starts = c < 0x80 ? IsNameStart(static_cast<char>(c)) : IsAlpha(c);
    if (!starts && (end == begin || !(c < 0x80 ? IsDigit(static_cast<char>(c)) : IsDecimal(c)))) break;
    end = next;
  }
  return end;
}

StatusOr<Token> TagLexer::Next(size_t* position, int line) {
  const char c = source_[*position];
  if (IsDigit(c)) return Number(position, line);
  if (c == '\'' || c == '"') return String(position, line);
  const size_t end = EndOfName(*position);
  if (end == *position) return Operator(position, line);
  Token token{Token::Kind::kName, line, std::string(source_.substr(*position, end - *position))};
  *position = end;
  return token;
}

StatusOr<Token> TagLexer::Number(size_t* position, int line) {
  const size_t begin = *position;
  size_t i = begin;
  // Digits, perhaps with single underscores between them.
  const auto digits = [&](int base) {
    std::string out;
    while (i < source_.size()) {
      const size_t at = source_[i] == '_' && i + 1 < source_.size() && i > begin ? i + 1 : i;
      const int digit = HexDigit(source_[at]);
      if (digit < 0 || digit >= base) break;
      out += source_[at];
      i = at + 1;
    }
    return out;
  };
  int base = 10;
  if (source_[i] == '0' && i + 1 < source_.size()) {
    const char letter = static_cast<char>(source_[i + 1] | 0x20);
    base = letter == 'x' ? 16 : letter == 'o' ? 8 : letter == 'b' ? 2 : 10;
    if (base != 10) i += 2;
  }
  std::string text = digits(base);
  bool is_float = false;
  // "a.0.1" is two subscripts, not a fraction.
  if (base == 10 && (begin == 0 || source_[begin - 1] != '.')) {
    if (i + 1 < source_.size() && source_[i] == '.' && IsDigit(source_[i + 1])) {
      ++i;
      text += '.' + digits(10);
      is_float = true;
    }
    if (i < source_.size() && (source_[i] | 0x20) == 'e') {
      const size_t sign = i + 1 < source_.size() && (source_[i + 1] == '+' || source_[i + 1] == '-') ? 1 : 0;
      if (i + 1 + sign < source_.size() && IsDigit(source_[i + 1 + sign])) {
        text += 'e';
        if (sign) text += source_[i + 1];
        i += 1 + sign;
        text += digits(10);
        is_float = true;
      }
    }
  }
  Token token{is_float ? Token::Kind::kFloat : Token::Kind::kInteger, line, text};
  const char* end = text.data() + text.size();
  const auto result = is_float ? std::from_chars(text.data(), end, token.number)
                               : std::from_chars(text.data(), end, token.integer, base);
  if (result.ec != std::errc() || result.ptr != end) {
    return LexError(line, absl::StrCat("the number ", text, " does not fit 64 bits"));
  }
  *position = i;
  return token;
}

StatusOr<Token> TagLexer::String(size_t* position, int line) {
  const char quote = source_[*position];
  const size_t begin = *position + 1;
  size_t end = begin;
  while (end < source_.size() && source_[end] != quote) end += source_[end] == '\\' ? 2 : 1;
  if (end >= source_.size()) return LexError(line, "the string is never closed");
  ASSIGN_OR_RETURN(std::string text, Unescape(source_.substr(begin, end - begin), line));
  *position = end + 1;
  return Token{Token::Kind::kString, line, std::move(text)};
}

StatusOr<Token> TagLexer::Operator(size_t* position, int line) {
  static constexpr std::string_view kOperators[] = {"//", "**", "==", "!=", ">=", "<=", "+", "-", "/",
                                                    "*",  "%",  "~",  "[",  "]",  "(",  ")", "{", "}",
                                                    ">",  "<",  "=",  ".",  ":",  "|",  ",", ";"};
  for (const std::string_view spelling : kOperators) {
    if (!source_.substr(*position).starts_with(spelling)) continue;
    const char c = spelling[0];
    if (c == '(' || c == '[' || c == '{') open_ += c == '(' ? ')' : c == '[' ? ']' : '}';
    if (c == ')' || c == ']' || c == '}') {
      if (open_.empty() || open_.back() != c) {
        return LexError(
            line,
            absl::StrCat(
                "unexpected '", ToAbsl(spelling), "'",
                open_.empty() ? "" : absl::StrCat(", expected '", open_.substr(open_.size() - 1), "'")));
      }
      open_.pop_back();
    }
    *position += spelling.size();
    return Token{Token::Kind::kOperator, line, std::string(spelling)};
  }
  size_t end = *position;
  NextChar(source_, &end);
  return LexError(
      line, absl::StrCat("unexpected character '", ToAbsl(source_.substr(*position, end - *position)), "'"));
}

}  // namespace coterie::jinja
