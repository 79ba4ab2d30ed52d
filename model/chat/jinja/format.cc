// Python's `format % values`.
#include <cmath>

#include "absl/strings/str_format.h"
#include "model/chat/jinja/arithmetic.h"
#include "model/chat/jinja/unicode.h"

namespace coterie::jinja {
namespace {

struct Conversion {
  bool left = false;
  bool zero = false;
  bool plus = false;
  size_t width = 0;
  int precision = -1;
  char letter = 0;
};

// Reads a conversion behind its '%' at f[*i].
StatusOr<Conversion> ReadConversion(std::string_view f, size_t* i) {
  Conversion c;
  for (; *i < f.size(); ++*i) {
    if (f[*i] == '-') {
      c.left = true;
    } else if (f[*i] == '0') {
      c.zero = true;
    } else if (f[*i] == '+') {
      c.plus = true;
    } else {
      break;
    }
  }
  const auto number = [&] {
    size_t n = 0;
    for (; *i < f.size() && f[*i] >= '0' && f[*i] <= '9'; ++*i)
      n = std::min<size_t>(n * 10 + static_cast<size_t>(f[*i] - '0'), 1 << 20);
    return n;
  };
  c.width = number();
  if (*i < f.size() && f[*i] == '.') {
    ++*i;
    c.precision = static_cast<int>(std::min<size_t>(number(), 100));
  }
  if (*i >= f.size()) return absl::InvalidArgumentError("the format ends inside of a conversion");
  c.letter = f[(*i)++];
  return c;
}

StatusOr<Text> Convert(Interpreter& in, const Conversion& c, const Value& value) {
  if (c.letter == 's' || c.letter == 'r') {
    ASSIGN_OR_RETURN(const Text text,
                     c.letter == 's' ? ToText(value, &in.budget()) : Repr(value, &in.budget()));
    if (c.precision < 0) return text;
    return text.Slice(0, ByteOfChar(text.bytes(), static_cast<size_t>(c.precision)));
  }
  double number;
  if (!value.ToDouble(&number)) {
    return absl::InvalidArgumentError(absl::StrCat("the conversion %", std::string(1, c.letter),
                                                   " needs a number, got ", ToAbsl(value.TypeName())));
  }
  std::string out;
  if (c.letter == 'f' || c.letter == 'F') {
    out = absl::StrFormat("%.*f", c.precision < 0 ? 6 : c.precision, number);
  } else {
    int64_t integer;
    if (!value.ToInt(&integer)) {
      if (c.letter == 'x' || !(std::abs(number) < 9e18)) {
        return absl::InvalidArgumentError("the conversion needs an integer");
      }
      integer = static_cast<int64_t>(number);
    }
    out = c.letter == 'x' ? absl::StrFormat("%s%x", integer < 0 ? "-" : "",
                                            integer < 0 ? 0 - static_cast<uint64_t>(integer)
                                                        : static_cast<uint64_t>(integer))
                          : absl::StrCat(integer);
  }
  if (c.plus && out[0] != '-') out = "+" + out;
  if (c.zero && !c.left && out.size() < c.width) {
    out.insert(out[0] == '-' || out[0] == '+' ? 1 : 0, c.width - out.size(), '0');
  }
  return Text::Trusted(out);
}

}  // namespace

StatusOr<Value> FormatPercent(Interpreter& in, const Text& format, const std::vector<Value>& values) {
  const std::string_view f = format.bytes();
  Text out;
  size_t next = 0;
  for (size_t i = 0; i < f.size();) {
    const size_t percent = std::min(f.find('%', i), f.size());
    RETURN_IF_ERROR(in.budget().Bytes(percent - i));
    out.Append(format, i, percent);
    if (percent == f.size()) break;
    i = percent + 1;
    ASSIGN_OR_RETURN(const Conversion c, ReadConversion(f, &i));
    if (c.letter == '%') {
      out.Append(format, percent, percent + 1);
      continue;
    }
    if (std::string_view("srdifFx").find(c.letter) == std::string_view::npos) {
      return absl::UnimplementedError(absl::StrCat(
          "the conversion '",
          ToAbsl(
              f.substr(percent, ByteOfChar(f.substr(percent), CountChars(f.substr(percent, i - percent))))),
          "' is not supported"));
    }
    if (next == values.size()) return absl::InvalidArgumentError("not enough arguments for the format");
    ASSIGN_OR_RETURN(const Text text, Convert(in, c, values[next++]));
    const size_t n_chars = CountChars(text.bytes());
    const size_t pad = c.width > n_chars ? c.width - n_chars : 0;
    RETURN_IF_ERROR(in.budget().Bytes(text.size() + pad));
    if (!c.left) out.AppendTrusted(std::string(pad, ' '));
    out.Append(text);
    if (c.left) out.AppendTrusted(std::string(pad, ' '));
  }
  if (next < values.size()) {
    // A mapping or a list alone may go unused, as in Python.
    if (!(values.size() == 1 && (values[0].dict() || values[0].list()))) {
      return absl::InvalidArgumentError("not all arguments are used by the format");
    }
  }
  return Value(std::move(out));
}

}  // namespace coterie::jinja
