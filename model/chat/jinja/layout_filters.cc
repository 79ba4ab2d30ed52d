// Filters that lay text out: cut it, wrap it, name sizes.
#include <charconv>
#include <cmath>

#include "absl/strings/str_format.h"
#include "model/chat/jinja/arithmetic.h"
#include "model/chat/jinja/filters.h"
#include "model/chat/jinja/interpreter.h"
#include "model/chat/jinja/text_functions.h"
#include "model/chat/jinja/unicode.h"

namespace coterie::jinja {
namespace {

StatusOr<Text> NeedText(const Value& self) {
  if (self.text()) return *self.text();
  return absl::InvalidArgumentError(absl::StrCat("needs a string, got ", ToAbsl(self.TypeName())));
}

// Up to `length` characters, `end` included; at a space unless words may be cut.
StatusOr<Value> Truncate(Interpreter& in, const Value& self, Args& args) {
  ASSIGN_OR_RETURN(const int64_t length, args.NextInt("length", 255));
  ASSIGN_OR_RETURN(const bool cut_words, args.NextBool("killwords", false));
  ASSIGN_OR_RETURN(const Text end, args.NextText("end", "..."));
  ASSIGN_OR_RETURN(const int64_t leeway, args.NextInt("leeway", 5));
  RETURN_IF_ERROR(args.Done());
  const auto n_end = static_cast<int64_t>(CountChars(end.bytes()));
  if (length < n_end || leeway < 0) {
    return absl::InvalidArgumentError(absl::StrCat("the length ", length, " must be at least ", n_end,
                                                   ", and the leeway ", leeway, " not below 0"));
  }
  // Whatever has a length may be short enough.
  const auto n_items = static_cast<int64_t>(self.list()   ? self.list()->items.size()
                                            : self.dict() ? self.dict()->items().size()
                                                          : 0);
  const bool counted = self.list() || self.dict() || self.is_undefined();
  if (counted && n_items - length <= leeway) return self;  // the sum might not fit
  ASSIGN_OR_RETURN(const Text text, NeedText(self));
  const auto n = static_cast<int64_t>(CountChars(text.bytes()));
  if (n <= length || n - length <= leeway) return self;
  Text kept = text.Slice(0, ByteOfChar(text.bytes(), static_cast<size_t>(length - n_end)));
  if (!cut_words) kept = kept.Slice(0, std::min(kept.bytes().rfind(' '), kept.size()));
  return Arithmetic(in, BinaryExpr::Op::kAdd, Value(std::move(kept)), Value(end));
}

StatusOr<Value> FileSizeFormat(Interpreter& in, const Value& self, Args& args) {
  ASSIGN_OR_RETURN(const bool binary, args.NextBool("binary", false));
  RETURN_IF_ERROR(args.Done());
  double bytes = 0;
  if (self.text()) {
    const std::string_view s = self.text()->bytes();
    const auto [end, error] = std::from_chars(s.data(), s.data() + s.size(), bytes);
    if (error != std::errc() || end != s.data() + s.size())
      return absl::InvalidArgumentError("needs a number");
  } else if (!self.ToDouble(&bytes)) {
    return absl::InvalidArgumentError(absl::StrCat("needs a number, got ", ToAbsl(self.TypeName())));
  }
  const double base = binary ? 1024 : 1000;
  if (bytes == 1) return Value(Text::Trusted("1 Byte"));
  if (bytes < -9.2e18) return DoesNotFit();
  if (bytes < base) return Value(Text::Trusted(absl::StrCat(static_cast<int64_t>(bytes), " Bytes")));
  static constexpr std::string_view kPrefixes = "kMGTPEZY";
  double unit = base * base;
  size_t i = 0;
  for (; bytes >= unit && i + 1 < kPrefixes.size(); ++i) unit *= base;
  if (bytes >= unit) unit = std::pow(base, static_cast<double>(kPrefixes.size() + 1));
  const std::string prefix =
      binary ? std::string{i == 0 ? 'K' : kPrefixes[i], 'i'} : std::string(1, kPrefixes[i]);
  return Value(Text::Trusted(absl::StrFormat("%.1f %sB", base * bytes / unit, prefix)));
}

// Random, or made for people who read HTML or Python: nothing that a prompt wants.
StatusOr<Value> Unsupported(Interpreter&, const Value&, Args&) {
  return absl::InvalidArgumentError("is not supported in chat templates");
}

constexpr Builtin kLayoutFilters[] = {
    {"truncate", Truncate},  {"filesizeformat", FileSizeFormat},
    {"pprint", Unsupported}, {"random", Unsupported},
    {"urlize", Unsupported}, {"wordwrap", Unsupported},
};

}  // namespace

std::span<const Builtin> LayoutFilters() { return kLayoutFilters; }

}  // namespace coterie::jinja
