#include "model/chat/jinja/json.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_format.h"
#include "model/chat/jinja/unicode.h"

namespace coterie::jinja {
namespace {

std::string EscapedChar(char32_t c, bool ensure_ascii) {
  switch (c) {
    case '"':
      return "\\\"";
    case '\\':
      return "\\\\";
    case '\n':
      return "\\n";
    case '\r':
      return "\\r";
    case '\t':
      return "\\t";
    case '\b':
      return "\\b";
    case '\f':
      return "\\f";
    default:
      break;
  }
  const auto code = static_cast<unsigned>(c);
  if (c >= 0x10000 && ensure_ascii) {
    return absl::StrFormat("\\u%04x\\u%04x", 0xD800 + ((code - 0x10000) >> 10),
                           0xDC00 + ((code - 0x10000) & 0x3FF));
  }
  if (c < 0x20 || (c >= 0x7F && ensure_ascii && c != 0x7F)) return absl::StrFormat("\\u%04x", code);
  std::string same;
  AppendUtf8(c, &same);
  return same;
}

class Writer {
 public:
  Writer(const JsonStyle& style, Budget* budget) : style_(style), budget_(budget) {}

  Status Write(const Value& value, int level) {
    RETURN_IF_ERROR(budget_->Step());
    if (value.text()) return WriteString(*value.text());
    if (const List* list = value.list(); list && list->is_list_or_tuple()) {
      return WriteAll("[", list->items.size(), level, "]",
                      [&](size_t i) { return Write(list->items[i], level + 1); });
    }
    if (const Dict* dict = value.dict()) return WriteDict(*dict, level);
    double unused;
    if (value.is_none() || value.ToDouble(&unused)) return Append(Scalar(value));
    if (const auto* undefined = value.As<Value::Undefined>())
      return absl::InvalidArgumentError(*undefined->reason);
    return absl::InvalidArgumentError(
        absl::StrCat("a value of type ", ToAbsl(value.TypeName()), " has no JSON form"));
  }

  Text Take() { return std::move(out_); }

 private:
  Status Append(std::string_view s) {
    RETURN_IF_ERROR(budget_->Bytes(s.size()));
    out_.AppendTrusted(s);
    return absl::OkStatus();
  }

  static std::string Scalar(const Value& value) {
    if (value.is_none()) return "null";
    if (const bool* b = value.As<bool>()) return *b ? "true" : "false";
    if (const int64_t* i = value.As<int64_t>()) return std::to_string(*i);
    if (const auto* big = value.As<Value::BigInteger>()) return *big->digits;
    const double d = *value.As<double>();
    return std::isnan(d) ? "NaN" : std::isinf(d) ? d > 0 ? "Infinity" : "-Infinity" : FloatRepr(d);
  }

  Status WriteString(const Text& text) {
    RETURN_IF_ERROR(Append("\""));
    Text escaped = MapChars(text, [&](char32_t c, size_t) { return EscapedChar(c, style_.ensure_ascii); });
    RETURN_IF_ERROR(budget_->Bytes(escaped.size()));
    out_.Append(escaped);
    return Append("\"");
  }

  Status NewLine(int level) {
    if (!style_.indent) return absl::OkStatus();
    RETURN_IF_ERROR(Append("\n"));
    for (int i = 0; i < level; ++i) RETURN_IF_ERROR(Append(*style_.indent));
    return absl::OkStatus();
  }

  template <typename WriteItem>
  Status WriteAll(std::string_view open, size_t n, int level, std::string_view close, WriteItem item) {
    RETURN_IF_ERROR(Append(open));
    for (size_t i = 0; i < n; ++i) {
      if (i > 0) RETURN_IF_ERROR(Append(style_.item_separator));
      RETURN_IF_ERROR(NewLine(level + 1));
      RETURN_IF_ERROR(item(i));
    }
    if (n > 0) RETURN_IF_ERROR(NewLine(level));
    return Append(close);
  }

  Status WriteDict(const Dict& dict, int level) {
    std::vector<const std::pair<Value, Value>*> items;
    for (const auto& item : dict.items()) items.push_back(&item);
    if (style_.sort_keys) {
      RETURN_IF_ERROR(budget_->Step(items.size() * 8));
      for (const auto* item : items) {
        if (!item->first.text())
          return absl::InvalidArgumentError("only keys that are strings can be sorted");
      }
      std::stable_sort(items.begin(), items.end(), [](const auto* a, const auto* b) {
        return a->first.text()->bytes() < b->first.text()->bytes();
      });
    }
    return WriteAll("{", items.size(), level, "}", [&](size_t i) -> Status {
      const auto& [key, value] = *items[i];
      RETURN_IF_ERROR(WriteString(key.text() ? *key.text() : Text::Trusted(Scalar(key))));
      RETURN_IF_ERROR(Append(style_.key_separator));
      return Write(value, level + 1);
    });
  }

  const JsonStyle& style_;
  Budget* budget_;
  Text out_;
};

}  // namespace

StatusOr<Text> ToJson(const Value& value, const JsonStyle& style, Budget* budget) {
  Writer writer(style, budget);
  RETURN_IF_ERROR(writer.Write(value, 0));
  return writer.Take();
}

}  // namespace coterie::jinja
