#ifndef COTERIE_MODEL_CHAT_JINJA_JSON_H_
#define COTERIE_MODEL_CHAT_JINJA_JSON_H_

#include <optional>
#include <string>
#include <string_view>

#include "common/status.h"
#include "model/chat/jinja/value.h"

namespace coterie::jinja {

struct JsonStyle {
  std::optional<std::string> indent;  // one level's white space; nullopt: all on one line
  std::string item_separator = ", ";
  std::string key_separator = ": ";
  bool ensure_ascii = false;
  bool sort_keys = false;
};

// json.dumps of Python: what the filter `tojson` of transformers prints. Strings keep their provenance, the
// punctuation is trusted. InvalidArgument for values JSON has no word for.
StatusOr<Text> ToJson(const Value& value, const JsonStyle& style, Budget* budget);

// JSON text of a caller as a value, in the order of the text; every string and key is untrusted. Integers
// beyond 64 bits keep their digits. InvalidArgument when it does not parse, ResourceExhausted when it nests
// deeper than the limit.
StatusOr<Value> FromJson(std::string_view json, const Limits& limits);

}  // namespace coterie::jinja

#endif  // COTERIE_MODEL_CHAT_JINJA_JSON_H_
