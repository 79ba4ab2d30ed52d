#include "tests/model/grammar/validate.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <regex>
#include <vector>

#include "absl/strings/str_cat.h"
#include "model/text/regex.h"

namespace coterie {
namespace {

bool TypeFits(const Json& value, const std::string& type) {
  if (type == "null") return value.is_null();
  if (type == "boolean") return value.is_boolean();
  if (type == "string") return value.is_string();
  if (type == "number") return value.is_number();
  if (type == "integer") return value.is_number() && std::floor(value.get<double>()) == value.get<double>();
  if (type == "array") return value.is_array();
  return type == "object" && value.is_object();
}

size_t Characters(const std::string& text) {
  size_t n = 0;
  for (const char c : text) n += (static_cast<unsigned char>(c) & 0xC0) != 0x80;
  return n;
}

bool IsDate(const std::string& text) {
  int year = 0, month = 0, day = 0;
  if (text.size() != 10 || std::sscanf(text.c_str(), "%4d-%2d-%2d", &year, &month, &day) != 3) return false;
  const bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
  const int days[] = {31, leap ? 29 : 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
  return year >= 1 && month >= 1 && month <= 12 && day >= 1 && day <= days[month - 1];
}

bool FormatFits(const std::string& text, const std::string& format) {
  static const auto& time = *new std::regex(R"(\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d))");
  if (format == "date") return IsDate(text);
  const auto is_time = [](const std::string& t) {
    return std::regex_match(t, time) && std::stoi(t) < 24 && std::stoi(t.substr(3)) < 60 &&
           std::stoi(t.substr(6)) < 60;
  };
  if (format == "time") return is_time(text);
  if (format == "date-time")
    return text.size() > 11 && text[10] == 'T' && IsDate(text.substr(0, 10)) && is_time(text.substr(11));
  if (format == "uuid")
    return std::regex_match(text, std::regex("[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"));
  if (format == "ipv4") {
    unsigned a[4];
    int end = 0;
    if (std::sscanf(text.c_str(), "%3u.%3u.%3u.%3u%n", &a[0], &a[1], &a[2], &a[3], &end) != 4) return false;
    return end == static_cast<int>(text.size()) && a[0] < 256 && a[1] < 256 && a[2] < 256 && a[3] < 256;
  }
  return format == "email" && std::regex_match(text, std::regex(R"([^@\s.][^@\s]*@[^@\s.]+(\.[^@\s.]+)+)"));
}

std::string InObject(const Json& value, const Json& schema, const Json& root) {
  if (schema.contains("required")) {
    for (const Json& name : schema["required"]) {
      if (!value.contains(name.get<std::string>())) return "missing " + name.dump();
    }
  }
  const Json none = Json::object();
  const Json& properties = schema.contains("properties") ? schema["properties"] : none;
  for (const auto& [name, item] : value.items()) {
    std::string why;
    if (properties.contains(name)) {
      why = WhyInvalid(item, properties[name], root);
    } else if (schema.contains("additionalProperties")) {
      why = WhyInvalid(item, schema["additionalProperties"], root);
    }
    if (!why.empty()) return name + ": " + why;
  }
  return "";
}

std::string InArray(const Json& value, const Json& schema, const Json& root) {
  if (schema.contains("minItems") && value.size() < schema["minItems"].get<size_t>()) return "too few items";
  if (schema.contains("maxItems") && value.size() > schema["maxItems"].get<size_t>()) return "too many items";
  const size_t n_prefix = schema.contains("prefixItems") ? schema["prefixItems"].size() : 0;
  for (size_t i = 0; i < value.size(); ++i) {
    std::string why;
    if (i < n_prefix) {
      why = WhyInvalid(value[i], schema["prefixItems"][i], root);
    } else if (schema.contains("items")) {
      why = WhyInvalid(value[i], schema["items"], root);
    }
    if (!why.empty()) return absl::StrCat("item ", i, ": ", why);
  }
  return "";
}

// PCRE2, which like JSON Schema counts characters.
bool Matches(const std::string& text, const std::string& pattern) {
  const auto regex = text::Regex::Create(pattern);
  EXPECT_TRUE(regex.ok()) << regex.status();
  std::vector<text::Match> matches;
  EXPECT_TRUE((*regex)->Find(text, 0, text.size(), &matches).ok());
  return std::any_of(matches.begin(), matches.end(), [](const text::Match& match) { return match.is_match; });
}

std::string InScalar(const Json& value, const Json& schema) {
  if (value.is_string()) {
    const std::string& text = value.get_ref<const std::string&>();
    if (schema.contains("minLength") && Characters(text) < schema["minLength"].get<size_t>())
      return "too short";
    if (schema.contains("maxLength") && Characters(text) > schema["maxLength"].get<size_t>())
      return "too long";
    if (schema.contains("pattern") && !Matches(text, schema["pattern"].get<std::string>())) {
      return "not of the pattern";
    }
    if (schema.contains("format") && !FormatFits(text, schema["format"].get<std::string>()))
      return "not of the format";
  }
  if (value.is_number()) {
    const double number = value.get<double>();
    if (!std::isfinite(number)) return "not finite";
    if (schema.contains("minimum") && number < schema["minimum"].get<double>()) return "below the minimum";
    if (schema.contains("maximum") && number > schema["maximum"].get<double>()) return "above the maximum";
    if (schema.contains("exclusiveMinimum") && number <= schema["exclusiveMinimum"].get<double>())
      return "not above";
    if (schema.contains("exclusiveMaximum") && number >= schema["exclusiveMaximum"].get<double>())
      return "not below";
  }
  return "";
}

}  // namespace

std::string WhyInvalid(const Json& value, const Json& schema, const Json& root) {
  if (schema.is_boolean()) return schema.get<bool>() ? "" : "nothing is valid";
  if (schema.contains("$ref")) {
    const std::string uri = schema["$ref"].get<std::string>();
    return WhyInvalid(value, uri == "#" ? root : root.at(Json::json_pointer(uri.substr(1))), root);
  }
  if (schema.contains("type")) {
    const Json types = schema["type"].is_array() ? schema["type"] : Json::array({schema["type"]});
    bool fits = false;
    for (const Json& type : types) fits |= TypeFits(value, type.get<std::string>());
    if (!fits) return "of another type: " + value.dump();
  }
  if (schema.contains("const") && value != schema["const"]) return "not the const";
  if (schema.contains("enum") &&
      std::find(schema["enum"].begin(), schema["enum"].end(), value) == schema["enum"].end()) {
    return "not of the enum: " + value.dump();
  }
  for (const char* keyword : {"anyOf", "oneOf", "allOf"}) {
    if (!schema.contains(keyword)) continue;
    size_t n_valid = 0;
    for (const Json& option : schema[keyword]) n_valid += WhyInvalid(value, option, root).empty();
    const std::string name = keyword;
    const bool fits = name == "anyOf"   ? n_valid > 0
                      : name == "oneOf" ? n_valid == 1
                                        : n_valid == schema[keyword].size();
    if (!fits) return absl::StrCat(name, " with ", n_valid, " valid");
  }
  if (value.is_object()) return InObject(value, schema, root);
  if (value.is_array()) return InArray(value, schema, root);
  return InScalar(value, schema);
}

}  // namespace coterie
