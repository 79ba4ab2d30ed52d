// Values as text: str() and repr() of Python.
#include <algorithm>
#include <charconv>
#include <cmath>
#include <vector>

#include "absl/strings/str_format.h"
#include "model/chat/jinja/interpreter.h"
#include "model/chat/jinja/unicode.h"
#include "model/chat/jinja/value.h"

namespace coterie::jinja {
namespace {

// Prefers single quotes; escapes what does not print.
Text QuotedText(const Text& text) {
  const std::string_view s = text.bytes();
  const char quote =
      s.find('\'') != std::string_view::npos && s.find('"') == std::string_view::npos ? '"' : '\'';
  Text out = Text::Trusted(std::string_view(&quote, 1));
  out.Append(MapChars(text, [quote](char32_t c, size_t) -> std::string {
    if (c == static_cast<char32_t>(quote) || c == '\\') return std::string{'\\', static_cast<char>(c)};
    if (c == '\n') return "\\n";
    if (c == '\r') return "\\r";
    if (c == '\t') return "\\t";
    if (!IsPrintable(c)) {
      const auto code = static_cast<unsigned>(c);
      return c < 0x100     ? absl::StrFormat("\\x%02x", code)
             : c < 0x10000 ? absl::StrFormat("\\u%04x", code)
                           : absl::StrFormat("\\U%08x", code);
    }
    std::string same;
    AppendUtf8(c, &same);
    return same;
  }));
  out.AppendTrusted(std::string_view(&quote, 1));
  return out;
}

// Namespaces being printed, outermost first: one that holds itself is not printed again.
using OpenNamespaces = std::vector<const Namespace*>;
constexpr size_t kMaxOpenNamespaces = 16;

Status AppendRepr(const Value& value, Budget* budget, Text* out, OpenNamespaces* open);

// As jinja2 prints one: "<Namespace {'a': 1}>". Inside of itself it is "<Namespace {...}>".
Status AppendNamespace(const Namespace& ns, Budget* budget, Text* out, OpenNamespaces* open) {
  RETURN_IF_ERROR(budget->Bytes(24));
  if (std::find(open->begin(), open->end(), &ns) != open->end()) {
    out->AppendTrusted("<Namespace {...}>");
    return absl::OkStatus();
  }
  if (open->size() == kMaxOpenNamespaces) {
    return absl::ResourceExhaustedError(
        absl::StrCat("namespaces nest deeper than the limit of ", kMaxOpenNamespaces, " that are printed"));
  }
  open->push_back(&ns);
  out->AppendTrusted("<Namespace {");
  for (size_t i = 0; i < ns.attributes.values.size(); ++i) {
    const auto& [name, value] = ns.attributes.values[i];
    RETURN_IF_ERROR(budget->Bytes(name.size() + 8));
    out->AppendTrusted(absl::StrCat(i > 0 ? ", '" : "'", name, "': "));
    RETURN_IF_ERROR(AppendRepr(value, budget, out, open));
  }
  open->pop_back();
  out->AppendTrusted("}>");
  return absl::OkStatus();
}

// Shared elements may unfold into far more text than their memory: every piece is charged before it is
// appended.
Status AppendRepr(const Value& value, Budget* budget, Text* out, OpenNamespaces* open) {
  RETURN_IF_ERROR(budget->Step());
  const auto append = [&](std::string_view s) -> Status {
    RETURN_IF_ERROR(budget->Bytes(s.size()));
    out->AppendTrusted(s);
    return absl::OkStatus();
  };
  if (const Text* text = value.text()) {
    RETURN_IF_ERROR(budget->Bytes(text->size() + 2));
    if (text->markup()) RETURN_IF_ERROR(append("Markup("));
    out->Append(QuotedText(*text));
    return text->markup() ? append(")") : absl::OkStatus();
  }
  if (const List* list = value.list()) {
    if (list->flavour == List::Flavour::kRange) {
      RETURN_IF_ERROR(append(absl::StrCat("range(", list->begin, ", ", list->end)));
      return append(list->step == 1 ? ")" : absl::StrCat(", ", list->step, ")"));
    }
    const bool tuple = list->flavour == List::Flavour::kTuple;
    if (list->is_view()) RETURN_IF_ERROR(append(absl::StrCat(ToAbsl(value.TypeName()), "(")));
    RETURN_IF_ERROR(append(tuple ? "(" : "["));
    for (size_t i = 0; i < list->items.size(); ++i) {
      if (i > 0) RETURN_IF_ERROR(append(", "));
      RETURN_IF_ERROR(AppendRepr(list->items[i], budget, out, open));
    }
    if (tuple && list->items.size() == 1) RETURN_IF_ERROR(append(","));
    return append(tuple ? ")" : list->is_view() ? "])" : "]");
  }
  if (const Dict* dict = value.dict()) {
    RETURN_IF_ERROR(append("{"));
    for (size_t i = 0; i < dict->items().size(); ++i) {
      if (i > 0) RETURN_IF_ERROR(append(", "));
      RETURN_IF_ERROR(AppendRepr(dict->items()[i].first, budget, out, open));
      RETURN_IF_ERROR(append(": "));
      RETURN_IF_ERROR(AppendRepr(dict->items()[i].second, budget, out, open));
    }
    return append("}");
  }
  if (value.is_none()) return append("None");
  if (value.is_undefined()) return append("Undefined");
  if (const bool* b = value.As<bool>()) return append(*b ? "True" : "False");
  if (const int64_t* i = value.As<int64_t>()) return append(std::to_string(*i));
  if (const double* d = value.As<double>()) return append(FloatRepr(*d));
  if (const auto* big = value.As<Value::BigInteger>()) return append(*big->digits);
  if (auto* const* ns = value.As<Namespace*>()) return AppendNamespace(**ns, budget, out, open);
  if (const auto* loop = value.As<std::shared_ptr<Loop>>()) {
    return append(absl::StrCat("<LoopContext ", (*loop)->index0 + 1, "/", (*loop)->items().size(), ">"));
  }
  if (const auto* callable = value.As<std::shared_ptr<const Callable>>(); callable && (*callable)->macro) {
    const std::string& name = (*callable)->macro->name;
    return append(absl::StrCat("<Macro ", name.empty() ? "anonymous" : absl::StrCat("'", name, "'"), ">"));
  }
  // Python adds an address to these, which no two runs share.
  return append(absl::StrCat("<", ToAbsl(value.TypeName()), " object>"));
}

}  // namespace

StatusOr<Text> Repr(const Value& value, Budget* budget) {
  Text out;
  OpenNamespaces open;
  RETURN_IF_ERROR(AppendRepr(value, budget, &out, &open));
  return out;
}

StatusOr<Text> ToText(const Value& value, Budget* budget) {
  if (value.is_undefined()) return Text();
  if (const Text* text = value.text()) {
    RETURN_IF_ERROR(budget->Bytes(text->size()));
    return text->markup() ? text->WithMarkup(false) : *text;
  }
  return Repr(value, budget);
}

std::string FloatRepr(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value > 0 ? "inf" : "-inf";
  char buffer[40];
  const auto end = std::to_chars(buffer, buffer + sizeof(buffer), value, std::chars_format::scientific).ptr;
  const std::string_view scientific(buffer, static_cast<size_t>(end - buffer));  // [-]d[.ddd]e±xx
  const size_t e = scientific.find('e');
  int exponent = 0;
  const size_t sign_bytes = scientific[e + 1] == '+' ? 2 : 1;
  std::from_chars(buffer + e + sign_bytes, end, exponent);
  std::string digits;
  for (const char c : scientific.substr(0, e)) {
    if (c >= '0' && c <= '9') digits += c;
  }
  std::string out = scientific[0] == '-' ? "-" : "";
  if (exponent < -4 || exponent >= 16) {
    out += digits[0];
    if (digits.size() > 1) absl::StrAppend(&out, ".", digits.substr(1));
    absl::StrAppendFormat(&out, "e%c%02d", exponent < 0 ? '-' : '+', std::abs(exponent));
    return out;
  }
  if (exponent < 0)
    return absl::StrCat(out, "0.", std::string(static_cast<size_t>(-exponent - 1), '0'), digits);
  const size_t whole = static_cast<size_t>(exponent) + 1;
  if (digits.size() < whole) digits.append(whole - digits.size(), '0');
  absl::StrAppend(&out, digits.substr(0, whole), ".");
  return out + (digits.size() > whole ? digits.substr(whole) : "0");
}

}  // namespace coterie::jinja
