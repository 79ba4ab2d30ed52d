// str.format of Python, whose replacement fields may reach into their arguments ("{0.name!r:>{width}}").
#include <optional>

#include "model/chat/jinja/methods.h"
#include "model/chat/jinja/number_format.h"
#include "model/chat/jinja/text_functions.h"
#include "model/chat/jinja/unicode.h"

namespace coterie::jinja {
namespace {

bool IsNumber(std::string_view s) {
  return !s.empty() && s.size() < 9 && s.find_first_not_of("0123456789") == std::string_view::npos;
}

Status Missing(std::string_view field) {
  return absl::InvalidArgumentError(absl::StrCat("no argument for '{", ToAbsl(field), "}'"));
}

class Formatter {
 public:
  Formatter(Interpreter& in, const std::vector<Value>& positional,
            const std::vector<std::pair<std::string, Value>>& named, bool escape)
      : in_(in), positional_(positional), named_(named), escape_(escape) {}

  // `levels`: how deep fields may still stand in the formats of others.
  StatusOr<Text> Run(const Text& format, int levels) {
    if (levels < 0) return absl::InvalidArgumentError("replacement fields nest too deep");
    const std::string_view f = format.bytes();
    Text out = format.Slice(0, 0);
    for (size_t i = 0; i < f.size();) {
      const size_t brace = std::min(f.find_first_of("{}", i), f.size());
      RETURN_IF_ERROR(in_.budget().Bytes(brace - i + 1));
      out.Append(format, i, brace);
      if (brace == f.size()) break;
      i = brace + 1;
      if (i < f.size() && f[i] == f[brace]) {
        out.Append(format, brace, brace + 1);
        ++i;
        continue;
      }
      if (f[brace] == '}') return absl::InvalidArgumentError("a single '}' in the format");
      const size_t end = EndOfField(f, i);
      if (end == std::string_view::npos)
        return absl::InvalidArgumentError("a '{' of the format is never closed");
      ASSIGN_OR_RETURN(const Text text, Field(format.Slice(i, end), levels));
      RETURN_IF_ERROR(in_.budget().Bytes(text.size()));
      out.Append(text);
      i = end + 1;
    }
    return out;
  }

 private:
  static size_t EndOfField(std::string_view f, size_t begin) {
    int open = 1;
    for (size_t i = begin; i < f.size(); ++i) {
      open += f[i] == '{' ? 1 : f[i] == '}' ? -1 : 0;
      if (open == 0) return i;
    }
    return std::string_view::npos;
  }

  StatusOr<Text> Field(const Text& field, int levels) {
    const std::string_view f = field.bytes();
    size_t name_end = 0;
    for (bool inside = false; name_end < f.size(); ++name_end) {
      if (f[name_end] == '[') inside = true;
      if (f[name_end] == ']') inside = false;
      if (!inside && (f[name_end] == '!' || f[name_end] == ':')) break;
    }
    ASSIGN_OR_RETURN(Value value, Lookup(f.substr(0, name_end)));
    size_t i = name_end;
    if (i < f.size() && f[i] == '!') {
      const char conversion = i + 1 < f.size() ? f[i + 1] : 0;
      i += 2;
      if (conversion == 'r' || conversion == 'a') {
        ASSIGN_OR_RETURN(Text text, Repr(value, &in_.budget()));
        value = Value(std::move(text));
      } else if (conversion == 's') {
        ASSIGN_OR_RETURN(Text text, ToText(value, &in_.budget()));
        value = Value(std::move(text));
      } else {
        return absl::InvalidArgumentError("behind '!' of a replacement field stands r or s");
      }
      if (i < f.size() && f[i] != ':')
        return absl::InvalidArgumentError("expected ':' behind the conversion");
    }
    Text spec;
    if (i < f.size()) {
      ASSIGN_OR_RETURN(spec, Run(field.Slice(i + 1, f.size()), levels - 1));
    }
    ASSIGN_OR_RETURN(const Text text, FormatValue(value, spec));
    return escape_ ? Escaped(text) : text;
  }

  StatusOr<Value> Lookup(std::string_view field) {
    const size_t end = std::min(field.find_first_of(".["), field.size());
    ASSIGN_OR_RETURN(Value value, Argument(field.substr(0, end), field));
    std::string_view rest = field.substr(end);
    while (!rest.empty()) {
      if (rest[0] == '.') {
        const size_t stop = std::min(rest.find_first_of(".[", 1), rest.size());
        ASSIGN_OR_RETURN(value, in_.Attribute(value, rest.substr(1, stop - 1)));
        rest.remove_prefix(stop);
      } else {
        const size_t stop = rest.find(']');
        if (rest[0] != '[' || stop == std::string_view::npos) return Missing(field);
        const std::string_view key = rest.substr(1, stop - 1);
        ASSIGN_OR_RETURN(value, in_.Item(value, IsNumber(key) ? Value(int64_t{std::stoi(std::string(key))})
                                                              : Value(Text::Trusted(key))));
        rest.remove_prefix(stop + 1);
      }
      if (value.is_undefined()) return Missing(field);
    }
    return value;
  }

  StatusOr<Value> Argument(std::string_view name, std::string_view field) {
    if (name.empty() || IsNumber(name)) {
      // Either all by their place or none.
      const bool automatic = name.empty();
      if (numbered_.has_value() && *numbered_ != automatic) {
        return absl::InvalidArgumentError("the format numbers some of its fields and not others");
      }
      numbered_ = automatic;
      const size_t index = automatic ? next_++ : static_cast<size_t>(std::stoi(std::string(name)));
      if (index >= positional_.size()) return Missing(field);
      return positional_[index];
    }
    for (const auto& [other, value] : named_) {
      if (other == name) return value;
    }
    return Missing(field);
  }

  StatusOr<Text> FormatValue(const Value& value, const Text& spec_text) {
    const std::string_view text = spec_text.bytes();
    ASSIGN_OR_RETURN(FormatSpec spec, FormatSpec::Parse(text));
    spec.trusted = spec_text.trusted();
    double unused;
    if (value.ToDouble(&unused) && !(spec.plain)) {
      if (spec.type == 's') return absl::InvalidArgumentError("the format 's' does not go with a number");
      ASSIGN_OR_RETURN(const std::string number, FormatNumber(value, spec));
      // With 'c' the number chooses the character, and the number may be the caller's.
      return spec.trusted && spec.type != 'c' ? Text::Trusted(number) : Text::Untrusted(number);
    }
    if (value.text()) {
      if ((spec.type != 0 && spec.type != 's') || spec.sign != '-' || spec.align == '=' ||
          spec.grouping != 0 || spec.alternate) {
        return absl::InvalidArgumentError(
            absl::StrCat("the format '", ToAbsl(text), "' does not go with a string"));
      }
      const Text& whole = *value.text();
      if (spec.precision < 0) return Fill(whole, spec, '<', &in_.budget());
      return Fill(whole.Slice(0, ByteOfChar(whole.bytes(), static_cast<size_t>(spec.precision))), spec, '<',
                  &in_.budget());
    }
    if (!spec.plain) {
      return absl::InvalidArgumentError(absl::StrCat(
          "the format '", ToAbsl(text), "' does not go with a value of type ", ToAbsl(value.TypeName())));
    }
    return ToText(value, &in_.budget());
  }

  Interpreter& in_;
  const std::vector<Value>& positional_;
  const std::vector<std::pair<std::string, Value>>& named_;
  const bool escape_;
  std::optional<bool> numbered_;
  size_t next_ = 0;
};

StatusOr<Value> Run(Interpreter& in, const Text& format, const std::vector<Value>& positional,
                    const std::vector<std::pair<std::string, Value>>& named) {
  Formatter formatter(in, positional, named, format.markup());
  ASSIGN_OR_RETURN(Text out, formatter.Run(format, 2));
  out.set_markup(format.markup());
  return Value(std::move(out));
}

}  // namespace

StatusOr<Value> FormatMethod(Interpreter& in, const Value& self, Args& args) {
  const std::vector<Value> positional = args.TakeRest();
  return Run(in, *self.text(), positional, args.keyword());
}

StatusOr<Value> FormatMapMethod(Interpreter& in, const Value& self, Args& args) {
  ASSIGN_OR_RETURN(const Value mapping, args.Need("mapping"));
  RETURN_IF_ERROR(args.Done());
  if (!mapping.dict()) {
    return absl::InvalidArgumentError(absl::StrCat("needs a dict, got ", ToAbsl(mapping.TypeName())));
  }
  std::vector<std::pair<std::string, Value>> named;
  RETURN_IF_ERROR(in.budget().Elements(mapping.dict()->items().size() * 8));
  for (const auto& [key, value] : mapping.dict()->items()) {
    if (key.text()) named.emplace_back(key.text()->bytes(), value);
  }
  return Run(in, *self.text(), {}, named);
}

}  // namespace coterie::jinja
