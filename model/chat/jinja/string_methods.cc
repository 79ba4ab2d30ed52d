// Methods of strings.
#include "model/chat/jinja/interpreter.h"
#include "model/chat/jinja/methods.h"
#include "model/chat/jinja/text_functions.h"
#include "model/chat/jinja/unicode.h"

namespace coterie::jinja {
namespace {

template <Text (*kFunction)(const Text&)>
StatusOr<Value> MappedMethod(Interpreter& in, const Value& self, Args& args) {
  RETURN_IF_ERROR(args.Done());
  RETURN_IF_ERROR(in.budget().Bytes(self.text()->size() * 2));
  return Value(kFunction(*self.text()));
}

template <bool kLeft, bool kRight>
StatusOr<Value> StripMethod(Interpreter& in, const Value& self, Args& args) {
  ASSIGN_OR_RETURN(const Text chars, args.NextText("chars", ""));
  RETURN_IF_ERROR(args.Done());
  const Text& text = *self.text();
  RETURN_IF_ERROR(in.budget().Bytes(text.size()));
  RETURN_IF_ERROR(in.budget().Step(1 + text.size() / 64 * (1 + chars.size())));
  const ByteRange kept = Strip(text.bytes(), chars.bytes(), kLeft, kRight);
  return Value(text.Slice(kept.begin, kept.end));
}

StatusOr<Value> ListOfTexts(Interpreter& in, std::vector<Text> parts, List::Flavour flavour) {
  std::vector<Value> values;
  values.reserve(parts.size());
  for (Text& part : parts) values.emplace_back(std::move(part));
  return List::Make(std::move(values), in.limits(), flavour);
}

template <bool kFromRight>
StatusOr<Value> SplitMethod(Interpreter& in, const Value& self, Args& args) {
  const Value* given = args.Next("sep");
  ASSIGN_OR_RETURN(const int64_t max_splits, args.NextInt("maxsplit", -1));
  RETURN_IF_ERROR(args.Done());
  std::string_view separator;
  if (given && !given->is_none()) {
    if (!given->text()) return absl::InvalidArgumentError("the separator must be a string");
    separator = given->text()->bytes();
    if (separator.empty()) return absl::InvalidArgumentError("empty separator");
  }
  // Every byte may become a part of its own: a value of some 100 bytes.
  const size_t n_most =
      max_splits < 0 ? self.text()->size() : std::min(self.text()->size(), static_cast<size_t>(max_splits));
  RETURN_IF_ERROR(in.budget().Bytes(self.text()->size()));
  RETURN_IF_ERROR(in.budget().Elements(n_most / std::max<size_t>(1, separator.size()) + 1));
  return ListOfTexts(in, Split(*self.text(), separator, max_splits, kFromRight), List::Flavour::kList);
}

StatusOr<Value> SplitLinesMethod(Interpreter& in, const Value& self, Args& args) {
  ASSIGN_OR_RETURN(const bool keep_ends, args.NextBool("keepends", false));
  RETURN_IF_ERROR(args.Done());
  RETURN_IF_ERROR(in.budget().Elements(self.text()->size()));
  return ListOfTexts(in, SplitLines(*self.text(), keep_ends), List::Flavour::kList);
}

template <bool kFromRight>
StatusOr<Value> Partition(Interpreter& in, const Value& self, Args& args) {
  ASSIGN_OR_RETURN(const Text separator, args.NeedText("sep"));
  RETURN_IF_ERROR(args.Done());
  if (separator.empty()) return absl::InvalidArgumentError("empty separator");
  const Text& text = *self.text();
  RETURN_IF_ERROR(in.budget().Bytes(text.size()));
  const size_t at = kFromRight ? text.bytes().rfind(separator.bytes()) : text.bytes().find(separator.bytes());
  std::vector<Text> parts;
  if (at == std::string_view::npos) {
    parts = {text.Slice(0, 0), text.Slice(0, 0), text.Slice(0, 0)};
    parts[kFromRight ? 2 : 0] = text;
  } else {
    parts = {text.Slice(0, at), text.Slice(at, at + separator.size()),
             text.Slice(at + separator.size(), text.size())};
  }
  return ListOfTexts(in, std::move(parts), List::Flavour::kTuple);
}

// The bytes of the receiver between the optional arguments start and end (character indices).
StatusOr<ByteRange> Window(const Text& text, Args& args) {
  const auto n = static_cast<int64_t>(CountChars(text.bytes()));
  ASSIGN_OR_RETURN(int64_t start, args.NextInt("start", 0));
  ASSIGN_OR_RETURN(int64_t end, args.NextInt("end", n));
  const auto clamped = [n](int64_t i) {
    return static_cast<size_t>(std::clamp<int64_t>(i < 0 ? i + n : i, 0, n));
  };
  const size_t from = ByteOfChar(text.bytes(), clamped(start));
  return ByteRange{from, std::max(from, ByteOfChar(text.bytes(), clamped(end)))};
}

template <bool kAtEnd>
StatusOr<Value> StartsWith(Interpreter& in, const Value& self, Args& args) {
  ASSIGN_OR_RETURN(const Value wanted, args.Need("prefix"));
  const Text& text = *self.text();
  RETURN_IF_ERROR(in.budget().Step(1 + text.size() / 256));
  ASSIGN_OR_RETURN(const ByteRange range, Window(text, args));
  RETURN_IF_ERROR(args.Done());
  const std::string_view s = text.bytes().substr(range.begin, range.end - range.begin);
  std::vector<Value> candidates = {wanted};
  if (wanted.list() && wanted.list()->flavour == List::Flavour::kTuple) candidates = wanted.list()->items;
  for (const Value& candidate : candidates) {
    if (!candidate.text()) {
      return absl::InvalidArgumentError(
          absl::StrCat("takes a string or a tuple of strings, got ", ToAbsl(candidate.TypeName())));
    }
    RETURN_IF_ERROR(in.budget().Step());
    const std::string_view c = candidate.text()->bytes();
    if (kAtEnd ? s.ends_with(c) : s.starts_with(c)) return Value(true);
  }
  return Value(false);
}

// kFromRight: the last place. kMustExist: index() instead of find().
template <bool kFromRight, bool kMustExist>
StatusOr<Value> Find(Interpreter& in, const Value& self, Args& args) {
  ASSIGN_OR_RETURN(const Text needle, args.NeedText("sub"));
  const Text& text = *self.text();
  RETURN_IF_ERROR(in.budget().Step(1 + text.size() / 64));
  ASSIGN_OR_RETURN(const ByteRange range, Window(text, args));
  RETURN_IF_ERROR(args.Done());
  const std::string_view s = text.bytes().substr(range.begin, range.end - range.begin);
  const size_t at = kFromRight ? s.rfind(needle.bytes()) : s.find(needle.bytes());
  if (at == std::string_view::npos) {
    if (kMustExist) return absl::InvalidArgumentError("substring not found");
    return Value(int64_t{-1});
  }
  return Value(static_cast<int64_t>(CountChars(text.bytes().substr(0, range.begin + at))));
}

StatusOr<Value> Count(Interpreter& in, const Value& self, Args& args) {
  ASSIGN_OR_RETURN(const Text needle, args.NeedText("sub"));
  const Text& text = *self.text();
  ASSIGN_OR_RETURN(const ByteRange range, Window(text, args));
  RETURN_IF_ERROR(args.Done());
  const std::string_view s = text.bytes().substr(range.begin, range.end - range.begin);
  RETURN_IF_ERROR(in.budget().Step(1 + s.size() / 64));
  if (needle.empty()) return Value(static_cast<int64_t>(CountChars(s) + 1));
  int64_t n = 0;
  for (size_t at = s.find(needle.bytes()); at != std::string_view::npos;
       at = s.find(needle.bytes(), at + needle.size()))
    ++n;
  return Value(n);
}

StatusOr<Value> ReplaceMethod(Interpreter& in, const Value& self, Args& args) {
  ASSIGN_OR_RETURN(const Value old, args.Need("old"));
  ASSIGN_OR_RETURN(const Value with, args.Need("new"));
  ASSIGN_OR_RETURN(const int64_t count, args.NextInt("count", -1));
  RETURN_IF_ERROR(args.Done());
  if (!old.text() || !with.text()) return absl::InvalidArgumentError("takes two strings");
  const bool markup = self.text()->markup();
  ASSIGN_OR_RETURN(Text out, Replace(*self.text(), *old.text(), markup ? Escaped(*with.text()) : *with.text(),
                                     count, &in.budget()));
  return Value(std::move(out));
}

StatusOr<Value> JoinMethod(Interpreter& in, const Value& self, Args& args) {
  ASSIGN_OR_RETURN(const Value iterable, args.Need("iterable"));
  RETURN_IF_ERROR(args.Done());
  ASSIGN_OR_RETURN(const Value items, in.Iterate(iterable));
  std::vector<Text> parts;
  for (const Value& item : items.list()->items) {
    if (!item.text()) {
      return absl::InvalidArgumentError(absl::StrCat("takes strings only, got ", ToAbsl(item.TypeName())));
    }
    RETURN_IF_ERROR(in.budget().Bytes(item.text()->size()));
    parts.push_back(self.text()->markup() ? Escaped(*item.text()) : *item.text());
  }
  ASSIGN_OR_RETURN(Text out, Join(parts, *self.text(), &in.budget()));
  return Value(std::move(out));
}

template <bool kSuffix>
StatusOr<Value> RemovePrefix(Interpreter& in, const Value& self, Args& args) {
  ASSIGN_OR_RETURN(const Text affix, args.NeedText("prefix"));
  RETURN_IF_ERROR(args.Done());
  const Text& text = *self.text();
  RETURN_IF_ERROR(in.budget().Bytes(text.size()));
  const std::string_view s = text.bytes();
  if (kSuffix) return Value(text.Slice(0, s.ends_with(affix.bytes()) ? s.size() - affix.size() : s.size()));
  return Value(text.Slice(s.starts_with(affix.bytes()) ? affix.size() : 0, s.size()));
}

// Not empty, and every character is one of these.
template <bool (*kIs)(char32_t)>
StatusOr<Value> All(Interpreter& in, const Value& self, Args& args) {
  RETURN_IF_ERROR(args.Done());
  const std::string_view s = self.text()->bytes();
  RETURN_IF_ERROR(in.budget().Step(1 + s.size() / 64));
  for (size_t i = 0; i < s.size();) {
    if (!kIs(NextChar(s, &i))) return Value(false);
  }
  return Value(!s.empty());
}

bool IsAlphanumeric(char32_t c) { return IsAlpha(c) || IsNumeric(c); }

// isupper and islower: some character of that case, none of the other.
template <bool kUpper>
StatusOr<Value> AllOfCase(Interpreter& in, const Value& self, Args& args) {
  RETURN_IF_ERROR(args.Done());
  const std::string_view s = self.text()->bytes();
  RETURN_IF_ERROR(in.budget().Step(1 + s.size() / 64));
  bool any = false;
  for (size_t i = 0; i < s.size();) {
    const char32_t c = NextChar(s, &i);
    if (kUpper ? IsLower(c) : IsUpper(c)) return Value(false);
    any |= kUpper ? IsUpper(c) : IsLower(c);
  }
  return Value(any);
}

// kLeft: the text stands left, the padding right of it.
template <bool kLeft>
StatusOr<Value> Justify(Interpreter& in, const Value& self, Args& args) {
  ASSIGN_OR_RETURN(const int64_t width, args.NextInt("width", 0));
  ASSIGN_OR_RETURN(const Text fill, args.NextText("fillchar", " "));
  RETURN_IF_ERROR(args.Done());
  if (CountChars(fill.bytes()) != 1) return absl::InvalidArgumentError("the fill must be one character");
  const auto n = static_cast<int64_t>(CountChars(self.text()->bytes()));
  if (width <= n) return self;
  const auto pad = static_cast<size_t>(width - n);
  ASSIGN_OR_RETURN(const Text padding, Repeated(fill, pad, &in.budget()));
  Text result = kLeft ? *self.text() : padding;
  result.Append(kLeft ? padding : *self.text());
  result.set_markup(self.text()->markup());
  return Value(std::move(result));
}

StatusOr<Value> CenterMethod(Interpreter& in, const Value& self, Args& args) {
  ASSIGN_OR_RETURN(const int64_t width, args.NeedInt("width"));
  ASSIGN_OR_RETURN(const Text fill, args.NextText("fillchar", " "));
  RETURN_IF_ERROR(args.Done());
  if (CountChars(fill.bytes()) != 1) return absl::InvalidArgumentError("the fill must be one character");
  ASSIGN_OR_RETURN(Text out, Centered(*self.text(), width, fill, &in.budget()));
  return Value(std::move(out));
}

// Zeros between the sign and the rest.
StatusOr<Value> ZeroFill(Interpreter& in, const Value& self, Args& args) {
  ASSIGN_OR_RETURN(const int64_t width, args.NeedInt("width"));
  RETURN_IF_ERROR(args.Done());
  const Text& text = *self.text();
  const auto n = static_cast<int64_t>(CountChars(text.bytes()));
  if (width <= n) return self;
  const size_t sign = text.bytes().starts_with('-') || text.bytes().starts_with('+') ? 1 : 0;
  ASSIGN_OR_RETURN(const Text zeros,
                   Repeated(Text::Trusted("0"), static_cast<size_t>(width - n), &in.budget()));
  Text out = text.Slice(0, sign);
  out.Append(zeros);
  out.Append(text, sign, text.size());
  return Value(std::move(out));
}

StatusOr<Value> ExpandTabs(Interpreter& in, const Value& self, Args& args) {
  ASSIGN_OR_RETURN(const int64_t size, args.NextInt("tabsize", 8));
  RETURN_IF_ERROR(args.Done());
  const Text& text = *self.text();
  Text out = text.Slice(0, 0);
  int64_t column = 0;
  for (size_t i = 0; i < text.size();) {
    const size_t begin = i;
    const char32_t c = NextChar(text.bytes(), &i);
    if (c == '\t') {
      const int64_t n = size > 0 ? size - column % size : 0;
      ASSIGN_OR_RETURN(const Text spaces, Repeated(Text::Trusted(" "), static_cast<size_t>(n), &in.budget()));
      out.Append(spaces);
      column += n;
      continue;
    }
    out.Append(text, begin, i);
    column = c == '\n' || c == '\r' ? 0 : column + 1;
  }
  return Value(std::move(out));
}

StatusOr<Value> IsAscii(Interpreter&, const Value& self, Args& args) {
  RETURN_IF_ERROR(args.Done());
  const std::string_view s = self.text()->bytes();
  return Value(std::all_of(s.begin(), s.end(), [](char c) { return static_cast<uint8_t>(c) < 0x80; }));
}

StatusOr<Value> IsPrintableMethod(Interpreter&, const Value& self, Args& args) {
  RETURN_IF_ERROR(args.Done());
  for (size_t i = 0; i < self.text()->size();) {
    if (!IsPrintable(NextChar(self.text()->bytes(), &i))) return Value(false);
  }
  return Value(true);
}

StatusOr<Value> IsIdentifier(Interpreter&, const Value& self, Args& args) {
  RETURN_IF_ERROR(args.Done());
  const std::string_view s = self.text()->bytes();
  for (size_t i = 0; i < s.size();) {
    const bool first = i == 0;
    const char32_t c = NextChar(s, &i);
    if (c != '_' && !IsAlpha(c) && (first || !IsDecimal(c))) return Value(false);
  }
  return Value(!s.empty());
}

// Upper case begins words, lower case goes on; there is some case at all.
StatusOr<Value> IsTitle(Interpreter&, const Value& self, Args& args) {
  RETURN_IF_ERROR(args.Done());
  bool inside = false, any = false;
  for (size_t i = 0; i < self.text()->size();) {
    const char32_t c = NextChar(self.text()->bytes(), &i);
    if ((IsUpper(c) && inside) || (IsLower(c) && !inside)) return Value(false);
    inside = IsCased(c);
    any |= inside;
  }
  return Value(any);
}

constexpr Builtin kMethods[] = {
    {"strip", StripMethod<true, true>},
    {"lstrip", StripMethod<true, false>},
    {"rstrip", StripMethod<false, true>},
    {"split", SplitMethod<false>},
    {"rsplit", SplitMethod<true>},
    {"splitlines", SplitLinesMethod},
    {"partition", Partition<false>},
    {"rpartition", Partition<true>},
    {"startswith", StartsWith<false>},
    {"endswith", StartsWith<true>},
    {"find", Find<false, false>},
    {"rfind", Find<true, false>},
    {"index", Find<false, true>},
    {"rindex", Find<true, true>},
    {"count", Count},
    {"replace", ReplaceMethod},
    {"join", JoinMethod},
    {"upper", MappedMethod<ToUpper>},
    {"lower", MappedMethod<ToLower>},
    {"capitalize", MappedMethod<Capitalized>},
    {"title", MappedMethod<TitleCase>},
    {"removeprefix", RemovePrefix<false>},
    {"removesuffix", RemovePrefix<true>},
    {"isspace", All<IsSpace>},
    {"isalpha", All<IsAlpha>},
    {"isdigit", All<IsDecimal>},
    {"isdecimal", All<IsDecimal>},
    {"isnumeric", All<IsNumeric>},
    {"isalnum", All<IsAlphanumeric>},
    {"isupper", AllOfCase<true>},
    {"islower", AllOfCase<false>},
    {"ljust", Justify<true>},
    {"rjust", Justify<false>},
    {"format", FormatMethod},
    {"format_map", FormatMapMethod},
    {"center", CenterMethod},
    {"zfill", ZeroFill},
    {"expandtabs", ExpandTabs},
    {"swapcase", MappedMethod<SwapCase>},
    {"casefold", MappedMethod<CaseFolded>},
    {"isascii", IsAscii},
    {"isprintable", IsPrintableMethod},
    {"isidentifier", IsIdentifier},
    {"istitle", IsTitle},
};

}  // namespace

std::span<const Builtin> StringMethods() { return kMethods; }

}  // namespace coterie::jinja
