#ifndef COTERIE_GATEWAY_HTTP_API_JSON_OBJECT_H_
#define COTERIE_GATEWAY_HTTP_API_JSON_OBJECT_H_

#include <cstdint>
#include <initializer_list>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "common/status.h"

namespace coterie::gateway::http {

// A request's body: one JSON object, in strict UTF-8, no key twice in an object, bounded in depth and in the
// number of its values. InvalidArgument saying where and why not.
StatusOr<nlohmann::json> ParseBody(std::string_view body);

// Typed and bounded access to one object of a body. A null field counts as absent, as clients mean it. Errors
// are InvalidArgument naming the field as a path ("messages[2].role"), its value and what is expected, with
// OfField.
class JsonObject {
 public:
  // `path` is the object's own, empty for the body. `value` outlives this.
  static StatusOr<JsonObject> Of(const nlohmann::json& value, std::string path);

  const nlohmann::json* Find(std::string_view key) const;  // null when absent or null
  std::string PathOf(std::string_view key) const;

  StatusOr<std::optional<bool>> Bool(std::string_view key) const;
  // A number without a fraction, however it is written.
  StatusOr<std::optional<int64_t>> Int(std::string_view key, int64_t min, int64_t max) const;
  StatusOr<std::optional<double>> Number(std::string_view key) const;
  StatusOr<std::optional<std::string>> String(std::string_view key) const;
  // A list of strings; with `or_one`, one string stands for a list of it. Nothing where it is absent.
  StatusOr<std::optional<std::vector<std::string>>> Strings(std::string_view key, bool or_one) const;
  // Ids of tokens.
  StatusOr<std::vector<uint32_t>> TokenIds(std::string_view key) const;

  // InvalidArgument naming a field beyond these: one that is spelled wrong would silently do nothing.
  Status RefuseOthers(std::initializer_list<std::string_view> known) const;

  // `<path of key> is <its value>; <words>`.
  Status Refuse(std::string_view key, std::string_view words) const;

 private:
  JsonObject(const nlohmann::json* object, std::string path) : object_(object), path_(std::move(path)) {}

  const nlohmann::json* object_;
  std::string path_;
};

// The same for a value that is no field of its own: an element of a list.
Status RefuseValue(std::string_view path, const nlohmann::json& value, std::string_view words);

}  // namespace coterie::gateway::http

#endif  // COTERIE_GATEWAY_HTTP_API_JSON_OBJECT_H_
