#include "model/chat/jinja/arithmetic.h"
#include "model/chat/jinja/filters.h"
#include "model/chat/jinja/interpreter.h"
#include "model/chat/jinja/text_functions.h"
#include "model/chat/jinja/unicode.h"

namespace coterie::jinja {
namespace {

// Filters of strings take any value, as text; markup stays markup in most of them.
StatusOr<Text> SoftText(Interpreter& in, const Value& value) {
  if (!value.text()) return ToText(value, &in.budget());
  RETURN_IF_ERROR(in.budget().Bytes(value.text()->size()));
  return *value.text();
}

template <Text (*kFunction)(const Text&)>
StatusOr<Value> MappedFilter(Interpreter& in, const Value& self, Args& args) {
  RETURN_IF_ERROR(args.Done());
  ASSIGN_OR_RETURN(const Text text, SoftText(in, self));
  RETURN_IF_ERROR(in.budget().Bytes(text.size() * 2));  // some characters grow
  return Value(kFunction(text));
}

StatusOr<Value> Trim(Interpreter& in, const Value& self, Args& args) {
  ASSIGN_OR_RETURN(const Text chars, args.NextText("chars", ""));
  RETURN_IF_ERROR(args.Done());
  ASSIGN_OR_RETURN(const Text text, SoftText(in, self));
  RETURN_IF_ERROR(in.budget().Step(1 + text.size() / 64 * (1 + chars.size())));
  const ByteRange kept = Strip(text.bytes(), chars.bytes(), true, true);
  return Value(text.Slice(kept.begin, kept.end));
}

// Words begin behind white space, hyphens and opening brackets.
StatusOr<Value> Title(Interpreter& in, const Value& self, Args& args) {
  RETURN_IF_ERROR(args.Done());
  ASSIGN_OR_RETURN(const Text text, ToText(self, &in.budget()));
  RETURN_IF_ERROR(in.budget().Bytes(text.size() * 2));
  bool starts = true;
  return Value(MapChars(text, [&starts](char32_t c, size_t) {
    const bool first = starts;
    starts = IsSpace(c) || c == '-' || c == '(' || c == '{' || c == '[' || c == '<';
    return first ? Upper(c) : Lower(c);
  }));
}

StatusOr<Value> ReplaceFilter(Interpreter& in, const Value& self, Args& args) {
  ASSIGN_OR_RETURN(const Value old_value, args.Need("old"));
  ASSIGN_OR_RETURN(const Value new_value, args.Need("new"));
  ASSIGN_OR_RETURN(const int64_t count, args.NextInt("count", -1));
  RETURN_IF_ERROR(args.Done());
  ASSIGN_OR_RETURN(const Text text, ToText(self, &in.budget()));
  ASSIGN_OR_RETURN(const Text old, ToText(old_value, &in.budget()));
  ASSIGN_OR_RETURN(const Text with, ToText(new_value, &in.budget()));
  ASSIGN_OR_RETURN(Text out, Replace(text, old, with, count, &in.budget()));
  return Value(std::move(out));
}

StatusOr<Value> Indent(Interpreter& in, const Value& self, Args& args) {
  const Value* width = args.Next("width");
  ASSIGN_OR_RETURN(const bool first, args.NextBool("first", false));
  ASSIGN_OR_RETURN(const bool blank, args.NextBool("blank", false));
  RETURN_IF_ERROR(args.Done());
  if (!self.text()) {
    return absl::InvalidArgumentError(absl::StrCat("needs a string, got ", ToAbsl(self.TypeName())));
  }
  ASSIGN_OR_RETURN(Text text, SoftText(in, self));
  Text margin = Text::Trusted("    ");
  int64_t n_spaces;
  if (width && width->text()) {
    margin = *width->text();
  } else if (width && width->ToInt(&n_spaces)) {
    RETURN_IF_ERROR(in.budget().Bytes(static_cast<size_t>(std::max<int64_t>(n_spaces, 0))));
    margin = Text::Trusted(std::string(static_cast<size_t>(std::max<int64_t>(n_spaces, 0)), ' '));
  } else if (width) {
    return absl::InvalidArgumentError("the argument 'width' must be an integer or a string");
  }
  text.AppendTrusted("\n");  // so that a last empty line counts as one
  Text out = text.Slice(0, 0);
  if (first) out.Append(margin);
  bool at_first = true;
  for (const Text& line : SplitLines(text, false)) {
    RETURN_IF_ERROR(in.budget().Bytes(line.size() + margin.size() + 1));
    if (!at_first) {
      out.AppendTrusted("\n");
      if (blank || !line.empty()) out.Append(margin);
    }
    out.Append(line);
    at_first = false;
  }
  return Value(std::move(out));
}

StatusOr<Value> ToString(Interpreter& in, const Value& self, Args& args) {
  RETURN_IF_ERROR(args.Done());
  ASSIGN_OR_RETURN(Text text, SoftText(in, self));
  return Value(std::move(text));
}

StatusOr<Value> Format(Interpreter& in, const Value& self, Args& args) {
  const std::vector<Value> values = args.TakeRest();
  if (!values.empty() && !args.keyword().empty()) {
    return absl::InvalidArgumentError("takes positional arguments or named ones, not both");
  }
  ASSIGN_OR_RETURN(const Text text, SoftText(in, self));
  if (args.keyword().empty()) return FormatPercent(in, text, values, nullptr);
  DictBuilder named;
  for (const auto& [name, value] : args.keyword()) RETURN_IF_ERROR(named.Set(name, value));
  ASSIGN_OR_RETURN(const Value dict, named.Build(in.limits()));
  return FormatPercent(in, text, {dict}, dict.dict());
}

StatusOr<Value> Center(Interpreter& in, const Value& self, Args& args) {
  ASSIGN_OR_RETURN(const int64_t width, args.NextInt("width", 80));
  RETURN_IF_ERROR(args.Done());
  ASSIGN_OR_RETURN(const Text text, SoftText(in, self));
  ASSIGN_OR_RETURN(Text centred, Centered(text, width, Text::Trusted(" "), &in.budget()));
  return Value(std::move(centred));
}

StatusOr<Value> WordCount(Interpreter& in, const Value& self, Args& args) {
  RETURN_IF_ERROR(args.Done());
  ASSIGN_OR_RETURN(const Text text, ToText(self, &in.budget()));
  int64_t n = 0;
  bool inside = false;
  for (size_t i = 0; i < text.size();) {
    const char32_t c = NextChar(text.bytes(), &i);
    const bool word = IsAlpha(c) || IsNumeric(c) || c == '_';
    n += word && !inside;
    inside = word;
  }
  return Value(n);
}

constexpr Builtin kStringFilters[] = {
    {"trim", Trim},
    {"upper", MappedFilter<ToUpper>},
    {"lower", MappedFilter<ToLower>},
    {"capitalize", MappedFilter<Capitalized>},
    {"title", Title},
    {"replace", ReplaceFilter},
    {"indent", Indent},
    {"string", ToString},
    {"format", Format},
    {"center", Center},
    {"wordcount", WordCount},
};

}  // namespace

std::span<const Builtin> StringFilters() { return kStringFilters; }

}  // namespace coterie::jinja
