// Filters that know HTML: markup (see text.h), tags, addresses.
#include "absl/strings/str_format.h"
#include "model/chat/jinja/filters.h"
#include "model/chat/jinja/interpreter.h"
#include "model/chat/jinja/text_functions.h"
#include "model/chat/jinja/unicode.h"

namespace coterie::jinja {
namespace {

StatusOr<Value> Escape(Interpreter& in, const Value& self, Args& args) {
  RETURN_IF_ERROR(args.Done());
  if (self.text() && self.text()->markup()) return self;
  ASSIGN_OR_RETURN(const Text text, ToText(self, &in.budget()));
  RETURN_IF_ERROR(in.budget().Bytes(text.size() * 6));
  return Value(Escaped(text));
}

StatusOr<Value> ForceEscape(Interpreter& in, const Value& self, Args& args) {
  RETURN_IF_ERROR(args.Done());
  ASSIGN_OR_RETURN(const Text text, ToText(self, &in.budget()));
  RETURN_IF_ERROR(in.budget().Bytes(text.size() * 6));
  return Value(Escaped(text));
}

StatusOr<Value> Safe(Interpreter& in, const Value& self, Args& args) {
  RETURN_IF_ERROR(args.Done());
  ASSIGN_OR_RETURN(Text text, ToText(self, &in.budget()));
  text.set_markup(true);
  return Value(std::move(text));
}

// The end of the tag or comment that begins at `begin`; npos where it never ends.
size_t EndOfTag(std::string_view s, size_t begin) {
  const bool comment = s.substr(begin).starts_with("<!--");
  const size_t end = comment ? s.find("-->", begin + 4) : s.find('>', begin);
  return end == std::string_view::npos ? end : end + (comment ? 3 : 1);
}

// The entities that Escaped writes, and those everybody knows.
Text Unescaped(const Text& text) {
  static constexpr std::pair<std::string_view, std::string_view> kEntities[] = {
      {"&amp;", "&"},  {"&lt;", "<"},    {"&gt;", ">"},       {"&#39;", "'"},
      {"&#34;", "\""}, {"&quot;", "\""}, {"&nbsp;", "\u00a0"}};
  Text out;
  const std::string_view s = text.bytes();
  for (size_t i = 0; i < s.size();) {
    size_t n = 0;
    if (s[i] == '&') {
      for (const auto& [entity, meaning] : kEntities) {
        if (!s.substr(i).starts_with(entity)) continue;
        n = entity.size();
        out.Append(meaning, text.Slice(i, i + n).trusted());
      }
    }
    if (n == 0) {
      out.Append(text, i, i + 1);
      n = 1;
    }
    i += n;
  }
  return out;
}

StatusOr<Value> StripTags(Interpreter& in, const Value& self, Args& args) {
  RETURN_IF_ERROR(args.Done());
  ASSIGN_OR_RETURN(const Text text, ToText(self, &in.budget()));
  RETURN_IF_ERROR(in.budget().Bytes(text.size() * 3));
  Text kept;
  size_t from = 0;
  const std::string_view s = text.bytes();
  for (size_t at = s.find('<'); at != std::string_view::npos; at = s.find('<', from)) {
    const size_t end = EndOfTag(s, at);
    if (end == std::string_view::npos) break;
    kept.Append(text, from, at);
    from = end;
  }
  kept.Append(text, from, s.size());
  ASSIGN_OR_RETURN(const Text words, Join(Split(kept, "", -1, false), Text::Trusted(" "), &in.budget()));
  return Value(Unescaped(words));
}

// Percent-encoding of all but letters, digits and "_.-~" (and '/', unless in the part behind '?').
StatusOr<Text> Quoted(Interpreter& in, const Value& value, bool in_query) {
  ASSIGN_OR_RETURN(const Text text, ToText(value, &in.budget()));
  RETURN_IF_ERROR(in.budget().Bytes(text.size() * 3));
  Text out;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text.bytes()[i];
    const bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
    if (letter || c == '_' || c == '.' || c == '-' || c == '~' || (c == '/' && !in_query)) {
      out.Append(text, i, i + 1);
    } else if (c == ' ' && in_query) {
      out.Append("+", text.trusted(i));
    } else {
      out.Append(absl::StrFormat("%%%02X", static_cast<unsigned>(static_cast<uint8_t>(c))), text.trusted(i));
    }
  }
  return out;
}

StatusOr<Value> UrlEncode(Interpreter& in, const Value& self, Args& args) {
  RETURN_IF_ERROR(args.Done());
  const bool iterable =
      self.list() || self.dict() || self.As<std::shared_ptr<Generator>>() || self.is_undefined();
  if (!iterable) {
    ASSIGN_OR_RETURN(Text text, Quoted(in, self, false));
    return Value(std::move(text));
  }
  std::vector<std::pair<Value, Value>> pairs;
  if (self.dict()) {
    pairs = self.dict()->items();
  } else {
    ASSIGN_OR_RETURN(const Value items, in.Iterate(self));
    for (const Value& item : items.list()->items) {
      ASSIGN_OR_RETURN(const Value pair, in.Iterate(item));
      if (pair.list()->items.size() != 2)
        return absl::InvalidArgumentError("takes a dict or a list of pairs");
      pairs.emplace_back(pair.list()->items[0], pair.list()->items[1]);
    }
  }
  Text out;
  for (size_t i = 0; i < pairs.size(); ++i) {
    if (i > 0) out.AppendTrusted("&");
    ASSIGN_OR_RETURN(const Text name, Quoted(in, pairs[i].first, true));
    ASSIGN_OR_RETURN(const Text value, Quoted(in, pairs[i].second, true));
    out.Append(name);
    out.AppendTrusted("=");
    out.Append(value);
  }
  return Value(std::move(out));
}

StatusOr<Value> XmlAttributes(Interpreter& in, const Value& self, Args& args) {
  ASSIGN_OR_RETURN(const bool space, args.NextBool("autospace", true));
  RETURN_IF_ERROR(args.Done());
  if (!self.dict()) {
    return absl::InvalidArgumentError(absl::StrCat("needs a dict, got ", ToAbsl(self.TypeName())));
  }
  Text out;
  for (const auto& [key, value] : self.dict()->items()) {
    if (value.is_none() || value.is_undefined()) continue;
    if (!key.text() || key.text()->bytes().find_first_of(" \t\n\r\f\v/>=") != std::string_view::npos) {
      return absl::InvalidArgumentError("the name of an attribute has a character that none may have");
    }
    ASSIGN_OR_RETURN(const Text text, value.text() ? *value.text() : ToText(value, &in.budget()));
    RETURN_IF_ERROR(in.budget().Bytes((key.text()->size() + text.size()) * 6 + 4));
    if (space || !out.empty()) out.AppendTrusted(" ");
    out.Append(Escaped(*key.text()));
    out.AppendTrusted("=\"");
    out.Append(Escaped(text));
    out.AppendTrusted("\"");
  }
  return Value(std::move(out));
}

constexpr Builtin kHtmlFilters[] = {
    {"e", Escape},
    {"escape", Escape},
    {"forceescape", ForceEscape},
    {"safe", Safe},
    {"striptags", StripTags},
    {"urlencode", UrlEncode},
    {"xmlattr", XmlAttributes},
};

}  // namespace

std::span<const Builtin> HtmlFilters() { return kHtmlFilters; }

}  // namespace coterie::jinja
