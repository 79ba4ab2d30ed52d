#ifndef COTERIE_GATEWAY_HTTP_JSON_WRITER_H_
#define COTERIE_GATEWAY_HTTP_JSON_WRITER_H_

#include <cstdint>
#include <string>
#include <string_view>

namespace coterie::gateway::http {

// Appends JSON to a text: a chunk of an answer is written once for every token, and building a tree of values
// first would cost more than the rest of it. What comes out is valid JSON and UTF-8, whatever is put in:
// bytes that are no UTF-8 become U+FFFD, numbers that are none (NaN, infinity) become null. Brackets must
// match.
class JsonWriter {
 public:
  explicit JsonWriter(std::string* out) : out_(out) {}

  JsonWriter& BeginObject() { return Open('{'); }
  JsonWriter& EndObject() { return Close('}'); }
  JsonWriter& BeginArray() { return Open('['); }
  JsonWriter& EndArray() { return Close(']'); }
  JsonWriter& Key(std::string_view key);
  JsonWriter& String(std::string_view text);
  JsonWriter& Int(int64_t value);
  JsonWriter& Uint(uint64_t value);
  // The shortest digits that read back as the same number.
  JsonWriter& Number(double value);
  JsonWriter& Number(float value);
  JsonWriter& Bool(bool value) { return Plain(value ? "true" : "false"); }
  JsonWriter& Null() { return Plain("null"); }
  // Text that is JSON already.
  JsonWriter& Raw(std::string_view json) { return Plain(json); }

 private:
  JsonWriter& Open(char bracket);
  JsonWriter& Close(char bracket);
  JsonWriter& Plain(std::string_view text);
  void Separate();
  void Quote(std::string_view text);
  template <typename T>
  JsonWriter& Digits(T value);

  std::string* const out_;
  bool comma_ = false;  // before the next value or key
};

}  // namespace coterie::gateway::http

#endif  // COTERIE_GATEWAY_HTTP_JSON_WRITER_H_
