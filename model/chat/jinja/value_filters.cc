#include <charconv>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <optional>

#include "model/chat/jinja/arithmetic.h"
#include "model/chat/jinja/filters.h"
#include "model/chat/jinja/interpreter.h"
#include "model/chat/jinja/json.h"
#include "model/chat/jinja/unicode.h"

namespace coterie::jinja {
namespace {

StatusOr<Value> ToJsonFilter(Interpreter& in, const Value& self, Args& args) {
  JsonStyle style;
  ASSIGN_OR_RETURN(style.ensure_ascii, args.NextBool("ensure_ascii", false));
  const Value* indent = args.Next("indent");
  const Value* separators = args.Next("separators");
  ASSIGN_OR_RETURN(style.sort_keys, args.NextBool("sort_keys", false));
  RETURN_IF_ERROR(args.Done());
  int64_t width;
  if (indent && indent->text()) {
    style.indent = std::string(indent->text()->bytes());
  } else if (indent && indent->ToInt(&width)) {
    if (width > 64)
      return absl::InvalidArgumentError(absl::StrCat("the indent ", width, " is over the limit of 64"));
    style.indent = std::string(static_cast<size_t>(std::max<int64_t>(width, 0)), ' ');
  } else if (indent && !indent->is_none()) {
    return absl::InvalidArgumentError("the argument 'indent' must be an integer or a string");
  }
  if (style.indent) style.item_separator.pop_back();  // "," alone, as Python has it
  if (separators && !separators->is_none()) {
    const List* pair = separators->list();
    if (!pair || pair->items.size() != 2 || !pair->items[0].text() || !pair->items[1].text()) {
      return absl::InvalidArgumentError("the argument 'separators' must be two strings");
    }
    style.item_separator = std::string(pair->items[0].text()->bytes());
    style.key_separator = std::string(pair->items[1].text()->bytes());
  }
  ASSIGN_OR_RETURN(Text text, ToJson(self, style, &in.budget()));
  return Value(std::move(text));
}

StatusOr<Value> Default(Interpreter& in, const Value& self, Args& args) {
  const Value* fallback = args.Next("default_value");
  ASSIGN_OR_RETURN(const bool falsy_too, args.NextBool("boolean", false));
  RETURN_IF_ERROR(args.Done());
  if (!self.is_undefined() && !(falsy_too && !IsTrue(self))) return self;
  return fallback ? *fallback : Value(Text());
}

// Python's int(text) or float(text): white space around and single underscores between digits are fine.
std::string Digits(const Text& text) {
  const ByteRange kept = Strip(text.bytes(), "", true, true);
  std::string_view s = text.bytes().substr(kept.begin, kept.end - kept.begin);
  if (s.starts_with('+')) s.remove_prefix(1);
  std::string out;
  for (size_t i = 0; i < s.size(); ++i) {
    const bool between = s[i] == '_' && i > 0 && i + 1 < s.size() && s[i - 1] != '_' && s[i + 1] != '_';
    if (!between) out += s[i];
  }
  return out;
}

bool ParseFloat(const Text& text, double* out) {
  const std::string digits = Digits(text);
  const char* end = digits.data() + digits.size();
  const auto result = std::from_chars(digits.data(), end, *out);
  return result.ec == std::errc() && result.ptr == end;
}

Status Undefined(const Value& value) {
  return absl::InvalidArgumentError(*value.As<Value::Undefined>()->reason);
}

// Python's int(text, base), with the marks 0x, 0o and 0b where the base has them or is 0. InvalidArgument:
// beyond 64 bits.
StatusOr<std::optional<int64_t>> ParseInt(const Text& text, int64_t base) {
  std::string digits = Digits(text);
  const size_t sign = digits.starts_with('-') ? 1 : 0;
  const char mark =
      digits.size() > sign + 1 && digits[sign] == '0' ? static_cast<char>(digits[sign + 1] | 0x20) : 0;
  const int64_t marked = mark == 'x' ? 16 : mark == 'o' ? 8 : mark == 'b' ? 2 : 0;
  if (marked != 0 && (base == marked || base == 0)) {
    digits.erase(sign, 2);
    base = marked;
  }
  if (base == 0) base = 10;
  int64_t integer;
  const char* end = digits.data() + digits.size();
  const auto result = std::from_chars(digits.data(), end, integer, static_cast<int>(base));
  if (result.ptr != end) return std::nullopt;
  if (result.ec == std::errc::result_out_of_range) {
    return DoesNotFit();
  }
  return result.ec == std::errc() ? std::optional<int64_t>(integer) : std::nullopt;
}

StatusOr<Value> ToInt(Interpreter& in, const Value& self, Args& args) {
  const Value* given = args.Next("default");
  const Value fallback = given ? *given : Value(int64_t{0});
  ASSIGN_OR_RETURN(const int64_t base, args.NextInt("base", 10));
  RETURN_IF_ERROR(args.Done());
  if (self.is_undefined()) return Undefined(self);
  if (self.As<Value::BigInteger>()) return self;
  if (self.text() && base != 0 && (base < 2 || base > 36)) {
    return absl::InvalidArgumentError(absl::StrCat("the base ", base, " is not in 2..36"));
  }
  int64_t integer;
  if (self.ToInt(&integer)) return Value(integer);
  double number;
  if (const Text* text = self.text()) {
    ASSIGN_OR_RETURN(const std::optional<int64_t> parsed, ParseInt(*text, base));
    if (parsed) return Value(*parsed);
    if (!ParseFloat(*text, &number)) return fallback;
    if (std::isinf(number)) return fallback;
  } else if (!self.ToDouble(&number)) {
    return fallback;
  }
  if (std::isnan(number)) return fallback;
  if (!(std::abs(number) < 9.2e18)) {
    return DoesNotFit();
  }
  return Value(static_cast<int64_t>(number));
}

StatusOr<Value> ToFloat(Interpreter& in, const Value& self, Args& args) {
  const Value* given = args.Next("default");
  RETURN_IF_ERROR(args.Done());
  if (self.is_undefined()) return Undefined(self);
  double number;
  if (self.ToDouble(&number)) return Value(number);
  if (self.text() && ParseFloat(*self.text(), &number)) return Value(number);
  return given ? *given : Value(0.0);
}

// An integer rounded to a multiple of 10^digits, halves to even.
StatusOr<Value> RoundInteger(int64_t integer, int64_t digits) {
  if (digits > 18) return Value(int64_t{0});
  int64_t unit = 1;
  for (int64_t i = 0; i < digits; ++i) unit *= 10;
  const __int128 n = integer;
  __int128 quotient = n / unit, rest = n % unit;
  if (rest < 0) {
    rest += unit;
    --quotient;
  }
  if (rest * 2 > unit || (rest * 2 == unit && quotient % 2 != 0)) ++quotient;
  const __int128 rounded = quotient * unit;
  if (rounded < std::numeric_limits<int64_t>::min() || rounded > std::numeric_limits<int64_t>::max()) {
    return DoesNotFit();
  }
  return Value(static_cast<int64_t>(rounded));
}

// A double rounded to a multiple of 10^-precision as Python does it: correctly, over its decimal text.
Value RoundFloat(double number, int64_t precision) {
  if (!std::isfinite(number)) return Value(number);
  if (precision < 0) {
    const double unit = std::pow(10.0, static_cast<double>(-precision));
    return Value(std::nearbyint(number / unit) * unit);
  }
  char buffer[700];  // 309 digits before the point, 300 behind it: correctly rounded by the library
  const auto end = std::to_chars(buffer, buffer + sizeof(buffer), number, std::chars_format::fixed,
                                 static_cast<int>(precision))
                       .ptr;
  std::from_chars(buffer, end, number);
  return Value(number);
}

// Rounds halves to even, as Python does.
StatusOr<Value> Round(Interpreter& in, const Value& self, Args& args) {
  ASSIGN_OR_RETURN(const int64_t precision, args.NextInt("precision", 0));
  ASSIGN_OR_RETURN(const Text method, args.NextText("method", "common"));
  RETURN_IF_ERROR(args.Done());
  double number;
  if (!self.ToDouble(&number)) {
    return absl::InvalidArgumentError(absl::StrCat("needs a number, got ", ToAbsl(self.TypeName())));
  }
  if (precision < -300 || precision > 300) {
    return absl::InvalidArgumentError(absl::StrCat("the precision ", precision, " is not in -300..300"));
  }
  if (method.bytes() == "common") {
    int64_t integer;
    if (!self.ToInt(&integer)) return RoundFloat(number, precision);
    if (precision >= 0) return Value(integer);
    return RoundInteger(integer, -precision);
  }
  const double unit = std::pow(10.0, static_cast<double>(precision));
  if (method.bytes() == "ceil") return Value(std::ceil(number * unit) / unit);
  if (method.bytes() == "floor") return Value(std::floor(number * unit) / unit);
  return absl::InvalidArgumentError("the argument 'method' must be common, ceil or floor");
}

StatusOr<Value> Abs(Interpreter& in, const Value& self, Args& args) {
  RETURN_IF_ERROR(args.Done());
  int64_t integer;
  if (self.ToInt(&integer)) {
    if (integer == INT64_MIN) return DoesNotFit();
    return Value(std::abs(integer));
  }
  if (const double* number = self.As<double>()) return Value(std::abs(*number));
  return absl::InvalidArgumentError(absl::StrCat("needs a number, got ", ToAbsl(self.TypeName())));
}

StatusOr<Value> Attr(Interpreter& in, const Value& self, Args& args) {
  ASSIGN_OR_RETURN(const Text name, args.NeedText("name"));
  RETURN_IF_ERROR(args.Done());
  if (self.dict() && !FindMethod(self, name.bytes())) {
    return Value::UndefinedBecause(
        absl::StrCat("'dict object' has no attribute '", ToAbsl(name.bytes()), "'"));
  }
  return in.Attribute(self, name.bytes());
}

constexpr Builtin kValueFilters[] = {
    {"tojson", ToJsonFilter}, {"default", Default}, {"d", Default}, {"int", ToInt},
    {"float", ToFloat},       {"round", Round},     {"abs", Abs},   {"attr", Attr},
};

}  // namespace

std::span<const Builtin> ValueFilters() { return kValueFilters; }

}  // namespace coterie::jinja
