#include "gateway/http/json_writer.h"

#include <charconv>
#include <cmath>
#include <system_error>

#include "common/check.h"
#include "common/utf8.h"

namespace coterie::gateway::http {

void JsonWriter::Separate() {
  if (comma_) out_->push_back(',');
  comma_ = true;
}

JsonWriter& JsonWriter::Open(char bracket) {
  Separate();
  out_->push_back(bracket);
  comma_ = false;
  return *this;
}

JsonWriter& JsonWriter::Close(char bracket) {
  out_->push_back(bracket);
  comma_ = true;
  return *this;
}

JsonWriter& JsonWriter::Plain(std::string_view text) {
  Separate();
  out_->append(text);
  return *this;
}

JsonWriter& JsonWriter::Key(std::string_view key) {
  Separate();
  Quote(key);
  out_->push_back(':');
  comma_ = false;
  return *this;
}

JsonWriter& JsonWriter::String(std::string_view text) {
  Separate();
  if (IsWellFormed(text)) {
    Quote(text);
  } else {
    Quote(ReplaceIllFormed(text));
  }
  return *this;
}

void JsonWriter::Quote(std::string_view text) {
  constexpr char kHex[] = "0123456789abcdef";
  out_->push_back('"');
  size_t plain = 0;  // where what was not yet copied begins
  for (size_t i = 0; i < text.size(); ++i) {
    const auto c = static_cast<unsigned char>(text[i]);
    if (c >= 0x20 && c != '"' && c != '\\' && c != 0x7f) continue;
    out_->append(text.substr(plain, i - plain));
    plain = i + 1;
    switch (c) {
      case '"':
        out_->append("\\\"");
        break;
      case '\\':
        out_->append("\\\\");
        break;
      case '\n':
        out_->append("\\n");
        break;
      case '\r':
        out_->append("\\r");
        break;
      case '\t':
        out_->append("\\t");
        break;
      default:
        out_->append("\\u00");
        out_->push_back(kHex[c >> 4]);
        out_->push_back(kHex[c & 15]);
    }
  }
  out_->append(text.substr(plain));
  out_->push_back('"');
}

template <typename T>
JsonWriter& JsonWriter::Digits(T value) {
  char digits[32];
  const std::to_chars_result end = std::to_chars(digits, digits + sizeof(digits), value);
  COTERIE_CHECK(end.ec == std::errc()) << "a number of more than 32 characters";
  return Plain({digits, static_cast<size_t>(end.ptr - digits)});
}

JsonWriter& JsonWriter::Int(int64_t value) { return Digits(value); }
JsonWriter& JsonWriter::Uint(uint64_t value) { return Digits(value); }
JsonWriter& JsonWriter::Number(double value) { return std::isfinite(value) ? Digits(value) : Null(); }
JsonWriter& JsonWriter::Number(float value) { return std::isfinite(value) ? Digits(value) : Null(); }

}  // namespace coterie::gateway::http
