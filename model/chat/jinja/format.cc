// Python's `format % values`.
#include <cmath>

#include "model/chat/jinja/arithmetic.h"
#include "model/chat/jinja/number_format.h"
#include "model/chat/jinja/text_functions.h"
#include "model/chat/jinja/unicode.h"

namespace coterie::jinja {
namespace {

struct Conversion {
  std::string key;  // of "%(key)s"
  bool has_key = false;
  bool left = false;
  FormatSpec spec;  // type: the letter
};

// The values that a format takes one after the other, and those it takes by name.
class Operands {
 public:
  Operands(const std::vector<Value>& values, const Dict* named) : values_(values), named_(named) {}

  StatusOr<Value> Next() {
    if (next_ == values_.size()) return absl::InvalidArgumentError("not enough arguments for the format");
    return values_[next_++];
  }
  StatusOr<Value> Named(const std::string& key) {
    used_names_ = true;
    if (named_ == nullptr) return absl::InvalidArgumentError("the format needs a dict");
    const Value* value = named_->Find(key);
    if (value == nullptr)
      return absl::InvalidArgumentError(absl::StrCat("no value for '", key, "' of the format"));
    return *value;
  }
  // A mapping or a list alone may go unused, as in Python.
  bool all_used() const {
    const bool alone = values_.size() == 1 && (values_[0].dict() || values_[0].is_undefined() ||
                                               (values_[0].list() && values_[0].list()->is_sequence()));
    return next_ == values_.size() || used_names_ || alone;
  }

 private:
  const std::vector<Value>& values_;
  const Dict* named_;
  size_t next_ = 0;
  bool used_names_ = false;
};

StatusOr<size_t> ReadSize(std::string_view f, size_t* i, size_t limit, Operands* operands, bool* negative) {
  if (*i < f.size() && f[*i] == '*') {
    ++*i;
    ASSIGN_OR_RETURN(const Value value, operands->Next());
    int64_t n;
    if (!value.ToInt(&n)) return absl::InvalidArgumentError("'*' in a format wants an integer");
    *negative = n < 0;
    const uint64_t size = n < 0 ? 0 - static_cast<uint64_t>(n) : static_cast<uint64_t>(n);
    return static_cast<size_t>(std::min<uint64_t>(size, limit));
  }
  size_t n = 0;
  for (; *i < f.size() && f[*i] >= '0' && f[*i] <= '9'; ++*i) {
    n = std::min(n * 10 + static_cast<size_t>(f[*i] - '0'), limit);
  }
  return n;
}

// Reads a conversion behind its '%' at f[*i].
StatusOr<Conversion> ReadConversion(std::string_view f, size_t* i, Operands* operands) {
  Conversion c;
  if (*i < f.size() && f[*i] == '(') {
    int open = 1;
    const size_t begin = ++*i;
    for (; *i < f.size() && open > 0; ++*i) open += f[*i] == '(' ? 1 : f[*i] == ')' ? -1 : 0;
    if (open > 0) return absl::InvalidArgumentError("a name in the format is never closed");
    c.key = std::string(f.substr(begin, *i - 1 - begin));
    c.has_key = true;
  }
  for (; *i < f.size(); ++*i) {
    if (f[*i] == '-') {
      c.left = true;
    } else if (f[*i] == '0') {
      c.spec.fill = "0";
    } else if (f[*i] == '+') {
      c.spec.sign = '+';
    } else if (f[*i] == ' ') {
      if (c.spec.sign == '-') c.spec.sign = ' ';
    } else if (f[*i] == '#') {
      c.spec.alternate = true;
    } else {
      break;
    }
  }
  bool negative = false;
  ASSIGN_OR_RETURN(c.spec.width, ReadSize(f, i, kMaxFormatWidth, operands, &negative));
  c.left |= negative;
  if (*i < f.size() && f[*i] == '.') {
    ++*i;
    negative = false;
    ASSIGN_OR_RETURN(const size_t precision, ReadSize(f, i, kMaxFormatPrecision, operands, &negative));
    c.spec.precision = negative ? 0 : static_cast<int>(precision);
  }
  while (*i < f.size() && (f[*i] == 'h' || f[*i] == 'l' || f[*i] == 'L'))
    ++*i;  // sizes of C, without a meaning
  if (*i >= f.size()) return absl::InvalidArgumentError("the format ends inside of a conversion");
  c.spec.type = f[(*i)++];
  return c;
}

StatusOr<Text> ConvertText(Interpreter& in, const Conversion& c, const Value& value, bool escape) {
  Text text;
  if (c.spec.type == 's') {
    const bool markup = escape && value.text() && value.text()->markup();
    ASSIGN_OR_RETURN(text, ToText(value, &in.budget()));
    text.set_markup(markup);
  } else {
    ASSIGN_OR_RETURN(text, Repr(value, &in.budget()));
  }
  if (escape) {
    RETURN_IF_ERROR(in.budget().Bytes(text.size() * 6));
    text = Escaped(text);
  }
  if (c.spec.precision < 0) return text;
  return text.Slice(0, ByteOfChar(text.bytes(), static_cast<size_t>(c.spec.precision)));
}

StatusOr<Text> ConvertNumber(const Conversion& c, const Value& value) {
  double number;
  if (!value.ToDouble(&number)) {
    if (const auto* undefined = value.As<Value::Undefined>())
      return absl::InvalidArgumentError(*undefined->reason);
    return absl::InvalidArgumentError(absl::StrCat("the conversion %", std::string(1, c.spec.type),
                                                   " needs a number, got ", ToAbsl(value.TypeName())));
  }
  const std::string_view kFloats = "eEfFgG";
  FormatSpec spec = c.spec;
  spec.width = 0;
  spec.fill = " ";
  Value converted = value;
  int min_digits = -1;
  if (kFloats.find(spec.type) == std::string_view::npos) {
    int64_t integer;
    if (!value.ToInt(&integer)) {
      const bool decimal = spec.type == 'd' || spec.type == 'i' || spec.type == 'u';
      if (!decimal || !(std::abs(number) < 9.2e18)) {
        return absl::InvalidArgumentError("the conversion needs an integer");
      }
      integer = static_cast<int64_t>(number);
    }
    converted = Value(integer);
    if (spec.type == 'i' || spec.type == 'u') spec.type = 'd';
    min_digits = std::exchange(spec.precision, -1);
  }
  ASSIGN_OR_RETURN(std::string digits, Digits(converted, spec));
  if (min_digits > static_cast<int>(digits.size())) {
    digits.insert(0, static_cast<size_t>(min_digits) - digits.size(), '0');
  }
  double signed_number = 0;
  converted.ToDouble(&signed_number);
  const std::string sign = std::signbit(signed_number) ? "-"
                           : spec.sign == '-'          ? ""
                                                       : std::string(1, spec.sign);
  if (c.spec.fill == "0" && !c.left && std::isfinite(number) && sign.size() + digits.size() < c.spec.width) {
    const bool marked = spec.alternate && digits.size() > 2 && digits[0] == '0' && digits[1] == spec.type;
    digits.insert(marked ? 2 : 0, c.spec.width - sign.size() - digits.size(), '0');
  }
  return Text::Trusted(sign + digits);
}

StatusOr<Text> ConvertChar(const Value& value) {
  if (value.text()) {
    if (CountChars(value.text()->bytes()) == 1) return *value.text();
    return absl::InvalidArgumentError("the conversion %c needs one character");
  }
  FormatSpec spec;
  spec.type = 'c';
  int64_t code;
  if (!value.ToInt(&code))
    return absl::InvalidArgumentError("the conversion %c needs a character or its number");
  ASSIGN_OR_RETURN(const std::string text, Digits(Value(code), spec));
  return Text::Untrusted(text);  // the number may be the caller's, and with it the character
}

}  // namespace

StatusOr<Value> FormatPercent(Interpreter& in, const Text& format, const std::vector<Value>& values,
                              const Dict* named) {
  const std::string_view f = format.bytes();
  Text out = format.Slice(0, 0);
  Operands operands(values, named);
  for (size_t i = 0; i < f.size();) {
    const size_t percent = std::min(f.find('%', i), f.size());
    RETURN_IF_ERROR(in.budget().Bytes(percent - i));
    out.Append(format, i, percent);
    if (percent == f.size()) break;
    i = percent + 1;
    ASSIGN_OR_RETURN(const Conversion c, ReadConversion(f, &i, &operands));
    const char letter = c.spec.type;
    if (letter == '%') {
      out.Append(format, percent, percent + 1);
      continue;
    }
    if (std::string_view("sradiuoxXeEfFgGc").find(letter) == std::string_view::npos) {
      return absl::InvalidArgumentError("the format has a conversion that is none");
    }
    ASSIGN_OR_RETURN(const Value value, c.has_key ? operands.Named(c.key) : operands.Next());
    const bool is_text = letter == 's' || letter == 'r' || letter == 'a';
    ASSIGN_OR_RETURN(const Text text, is_text         ? ConvertText(in, c, value, format.markup())
                                      : letter == 'c' ? ConvertChar(value)
                                                      : ConvertNumber(c, value));
    const size_t n_chars = CountChars(text.bytes());
    const size_t pad = c.spec.width > n_chars ? c.spec.width - n_chars : 0;
    RETURN_IF_ERROR(in.budget().Bytes(text.size() + pad));
    if (!c.left) out.AppendTrusted(std::string(pad, ' '));
    out.Append(text);
    if (c.left) out.AppendTrusted(std::string(pad, ' '));
  }
  if (!operands.all_used()) return absl::InvalidArgumentError("not all arguments are used by the format");
  return Value(std::move(out));
}

}  // namespace coterie::jinja
