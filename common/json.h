#ifndef COTERIE_COMMON_JSON_H_
#define COTERIE_COMMON_JSON_H_

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "common/status.h"

namespace coterie {

// Keeps the order of the file's keys: PEFT takes the first rank pattern that matches.
using Json = nlohmann::ordered_json;

// Bounds on a configuration file. An ordered object is searched linearly, so the count of values bounds the
// time too.
struct JsonLimits {
  size_t max_bytes = 4 << 20;
  int max_depth = 16;
  size_t max_values = 16384;  // scalars, arrays and objects together
};

// Parses one JSON document (RFC 8259, UTF-8 checked). InvalidArgument naming `name`, the place and the
// reason; a key that appears twice in one object is refused, since readers disagree on which one counts.
StatusOr<Json> ParseJson(std::string_view text, std::string_view name, const JsonLimits& limits = {});

// The first half of it, for those who build something else from the text: whether it is such a document
// within the limits. The message names the place and the reason alone.
Status CheckJson(std::string_view text, const JsonLimits& limits);

// Reads `path` and parses it; the file's name stands in errors.
StatusOr<Json> ReadJsonFile(const std::string& path, const JsonLimits& limits = {});

// Typed and bounded access to the fields of one object. A null field counts as absent, as in Python's
// configurations. Errors are InvalidArgument: `<name>: field "x" is 0, expected 1 to 1024`.
class JsonFields {
 public:
  // `object` must outlive this; InvalidArgument when it is no object.
  static StatusOr<JsonFields> Of(const Json& object, std::string_view name);

  const std::string& name() const { return name_; }
  bool Has(std::string_view key) const { return Find(key) != nullptr; }
  const Json* Find(std::string_view key) const;  // null when absent or null
  const Json& object() const { return *object_; }

  StatusOr<int64_t> Int(std::string_view key, int64_t min, int64_t max) const;
  StatusOr<int64_t> IntOr(std::string_view key, int64_t fallback, int64_t min, int64_t max) const;
  StatusOr<double> Number(std::string_view key, double min, double max) const;
  StatusOr<double> NumberOr(std::string_view key, double fallback, double min, double max) const;
  StatusOr<bool> BoolOr(std::string_view key, bool fallback) const;
  StatusOr<std::string> String(std::string_view key) const;
  StatusOr<std::string> StringOr(std::string_view key, std::string_view fallback) const;
  // A string or a list of strings; empty when absent.
  StatusOr<std::vector<std::string>> Strings(std::string_view key) const;
  // An integer or a list of integers; empty when absent.
  StatusOr<std::vector<int64_t>> Ints(std::string_view key, int64_t min, int64_t max) const;
  // A list of numbers; empty when absent.
  StatusOr<std::vector<double>> Numbers(std::string_view key, double min, double max) const;
  StatusOr<JsonFields> Object(std::string_view key) const;

  // The error of a field: `<name>: field "key" is <value>, <what>`.
  Status Refuse(std::string_view key, std::string_view what,
                absl::StatusCode code = absl::StatusCode::kInvalidArgument) const;

 private:
  JsonFields(const Json* object, std::string name) : object_(object), name_(std::move(name)) {}
  Status Missing(std::string_view key) const;

  const Json* object_;
  std::string name_;
};

// A value as it stands, cut short: for messages.
std::string JsonText(const Json& value);

}  // namespace coterie

#endif  // COTERIE_COMMON_JSON_H_
