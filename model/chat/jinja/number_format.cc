#include "model/chat/jinja/number_format.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_format.h"
#include "model/chat/jinja/text_functions.h"
#include "model/chat/jinja/unicode.h"

namespace coterie::jinja {
namespace {

bool IsAlign(char c) { return c == '<' || c == '>' || c == '^' || c == '='; }

// A number of at most `limit` at s[*i]; false where none stands there or it is larger.
bool ReadNumber(std::string_view s, size_t* i, size_t limit, size_t* out) {
  const size_t begin = *i;
  *out = 0;
  for (; *i < s.size() && s[*i] >= '0' && s[*i] <= '9'; ++*i) {
    *out = *out * 10 + static_cast<size_t>(s[*i] - '0');
    if (*out > limit) return false;
  }
  return *i > begin;
}

std::string InBase(uint64_t n, unsigned base, bool upper) {
  const std::string_view digits = upper ? "0123456789ABCDEF" : "0123456789abcdef";
  std::string out;
  do {
    out += digits[n % base];
    n /= base;
  } while (n > 0);
  std::reverse(out.begin(), out.end());
  return out;
}

StatusOr<std::string> IntegerDigits(int64_t n, const FormatSpec& spec) {
  const uint64_t magnitude = n < 0 ? 0 - static_cast<uint64_t>(n) : static_cast<uint64_t>(n);
  if (spec.precision >= 0) return absl::InvalidArgumentError("a precision does not go with an integer");
  const std::string mark = spec.alternate ? std::string{'0', spec.type} : "";
  switch (spec.type) {
    case 0:
    case 'd':
    case 'n':
      return InBase(magnitude, 10, false);
    case 'b':
      return mark + InBase(magnitude, 2, false);
    case 'o':
      return mark + InBase(magnitude, 8, false);
    case 'x':
    case 'X':
      return mark + InBase(magnitude, 16, spec.type == 'X');
    case 'c': {
      if (n < 0 || n > 0x10FFFF || (n >= 0xD800 && n < 0xE000)) {
        return absl::InvalidArgumentError(absl::StrCat(n, " is no character"));
      }
      std::string out;
      AppendUtf8(static_cast<char32_t>(n), &out);
      return out;
    }
    default:
      return absl::InvalidArgumentError(
          absl::StrCat("the format '", std::string(1, spec.type), "' does not go with an integer"));
  }
}

// Without trailing zeros, as 'g' has it, in the notation that the exponent asks for.
std::string GeneralDigits(double d, int precision, bool alternate) {
  const int p = precision == 0 ? 1 : precision;
  return alternate ? absl::StrFormat("%#.*g", p, d) : absl::StrFormat("%.*g", p, d);
}

StatusOr<std::string> FloatDigits(double d, const FormatSpec& spec) {
  if (std::isnan(d))
    return std::string(spec.type == 'F' || spec.type == 'E' || spec.type == 'G' ? "NAN" : "nan");
  if (std::isinf(d))
    return std::string(spec.type == 'F' || spec.type == 'E' || spec.type == 'G' ? "INF" : "inf");
  const int precision = spec.precision < 0 ? 6 : spec.precision;
  std::string out;
  switch (spec.type) {
    case 'f':
    case 'F':
      return absl::StrFormat("%.*f", precision, d);
    case '%':
      return absl::StrFormat("%.*f%%", precision, d * 100);
    case 'e':
      return absl::StrFormat("%.*e", precision, d);
    case 'E':
      return absl::StrFormat("%.*E", precision, d);
    case 'g':
    case 'n':
      return GeneralDigits(d, precision, spec.alternate);
    case 'G':
      out = GeneralDigits(d, precision, spec.alternate);
      std::transform(out.begin(), out.end(), out.begin(), [](char c) { return c == 'e' ? 'E' : c; });
      return out;
    case 0:
      if (spec.precision < 0) return FloatRepr(d);
      out = GeneralDigits(d, spec.precision, false);
      // As a float it shows a digit behind the point.
      if (out.find_first_of(".e") == std::string::npos) {
        if (static_cast<int>(out.size()) >= std::max(spec.precision, 1)) {
          return absl::StrFormat("%.*e", std::max(spec.precision, 1) - 1, d);
        }
        out += ".0";
      }
      return out;
    default:
      return absl::InvalidArgumentError(
          absl::StrCat("the format '", std::string(1, spec.type), "' does not go with a float"));
  }
}

// Separators between groups of three digits (four for other bases than ten) before the point.
std::string Grouped(std::string digits, const FormatSpec& spec) {
  if (spec.grouping == 0) return digits;
  const size_t begin = spec.alternate && digits.size() > 1 && digits[0] == '0' ? 2 : 0;
  const size_t group = spec.type == 'x' || spec.type == 'X' || spec.type == 'b' || spec.type == 'o' ? 4 : 3;
  size_t end = begin;
  while (end < digits.size() && ((digits[end] >= '0' && digits[end] <= '9') ||
                                 (group == 4 && std::isalnum(static_cast<unsigned char>(digits[end])))))
    ++end;
  for (size_t i = end; i > begin + group; i -= group) digits.insert(i - group, 1, spec.grouping);
  return digits;
}

}  // namespace

StatusOr<FormatSpec> FormatSpec::Parse(std::string_view s) {
  FormatSpec spec;
  spec.plain = s.empty();
  size_t i = 0;
  if (!s.empty()) {
    size_t next = 0;
    NextChar(s, &next);
    if (next < s.size() && IsAlign(s[next])) {
      spec.fill = std::string(s.substr(0, next));
      spec.align = s[next];
      i = next + 1;
    } else if (IsAlign(s[0])) {
      spec.align = s[0];
      i = 1;
    }
  }
  const auto skip = [&](std::string_view any) -> char {
    if (i >= s.size() || any.find(s[i]) == std::string_view::npos) return 0;
    return s[i++];
  };
  if (const char sign = skip("+- ")) spec.sign = sign;
  spec.alternate = skip("#") != 0;
  if (skip("0") != 0 && spec.align == 0) {
    spec.fill = "0";
    spec.align = '0';  // '=' for numbers, '<' for text
  }
  size_t number = 0;
  if (i < s.size() && s[i] >= '0' && s[i] <= '9') {
    if (!ReadNumber(s, &i, kMaxFormatWidth, &number)) {
      return absl::InvalidArgumentError(
          absl::StrCat("a width of the format is over the limit of ", kMaxFormatWidth));
    }
    spec.width = number;
  }
  spec.grouping = skip(",_");
  if (skip(".") != 0) {
    if (!ReadNumber(s, &i, kMaxFormatPrecision, &number)) {
      return absl::InvalidArgumentError(
          absl::StrCat("the format wants a precision of at most ", kMaxFormatPrecision, " behind '.'"));
    }
    spec.precision = static_cast<int>(number);
  }
  spec.type = skip("bcdeEfFgGnosxX%");
  if (i != s.size()) {
    return absl::InvalidArgumentError(absl::StrCat("the format '", ToAbsl(s), "' is not one"));
  }
  return spec;
}

StatusOr<std::string> Digits(const Value& number, const FormatSpec& spec) {
  int64_t integer;
  const bool as_float =
      std::string_view("eEfFgG%").find(spec.type) != std::string_view::npos && spec.type != 0;
  if (!as_float && number.ToInt(&integer)) return IntegerDigits(integer, spec);
  double d = 0;
  number.ToDouble(&d);
  return FloatDigits(std::signbit(d) && !std::isnan(d) ? -d : d, spec);
}

StatusOr<std::string> FormatNumber(const Value& number, const FormatSpec& spec) {
  ASSIGN_OR_RETURN(const std::string digits, Digits(number, spec));
  double d = 0;
  number.ToDouble(&d);
  std::string sign = std::signbit(d) && !std::isnan(d) ? "-"
                     : spec.sign == '-'                ? ""
                                                       : std::string(1, spec.sign);
  std::string body = Grouped(digits, spec);
  const char align = spec.align == '0' ? '=' : spec.align == 0 ? '>' : spec.align;
  const size_t n = CountChars(body) + sign.size();
  const size_t pad = spec.width > n ? spec.width - n : 0;
  const auto fill = [&spec](size_t times) {
    std::string out;
    for (size_t i = 0; i < times; ++i) out += spec.fill;
    return out;
  };
  if (align == '=') return sign + fill(pad) + body;
  const size_t left = align == '>' ? pad : align == '^' ? pad / 2 : 0;
  return fill(left) + sign + body + fill(pad - left);
}

StatusOr<Text> Fill(const Text& text, const FormatSpec& spec, char side, Budget* budget) {
  const size_t n = CountChars(text.bytes());
  const size_t pad = spec.width > n ? spec.width - n : 0;
  const char align = spec.align == '0' ? '<' : spec.align == 0 ? side : spec.align;
  const size_t n_left = align == '>' ? pad : align == '^' ? pad / 2 : 0;
  const Text fill = spec.trusted ? Text::Trusted(spec.fill) : Text::Untrusted(spec.fill);
  ASSIGN_OR_RETURN(Text out, Repeated(fill, n_left, budget));
  ASSIGN_OR_RETURN(const Text right, Repeated(fill, pad - n_left, budget));
  out.Append(text);
  out.Append(right);
  return out;
}

}  // namespace coterie::jinja
