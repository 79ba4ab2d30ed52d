#include <algorithm>
#include <set>
#include <string>
#include <vector>

#include "model/grammar/schema_check.h"

namespace coterie::grammar {
namespace {

const Json& Follow(const Json& root, const Json& schema) {
  const Json* at = &schema;
  for (int i = 0; i < 16 && at->is_object() && at->contains("$ref"); ++i) {
    const StatusOr<const Json*> target = Resolve(root, at->at("$ref"), "");
    if (!target.ok()) break;
    at = *target;
  }
  return *at;
}

std::set<std::string> TypeNames(const Json& schema) {
  std::set<std::string> names;
  if (!schema.is_object() || !schema.contains("type")) return names;
  const Json& type = schema.at("type");
  for (const Json& one : type.is_array() ? type : Json::array({type})) {
    if (one.is_string())
      names.insert(one.get<std::string>() == "integer" ? "number" : one.get<std::string>());
  }
  return names;
}

const Json* Tag(const Json& schema, const std::string& name) {
  if (!schema.contains("properties") || !schema.contains("required")) return nullptr;
  const Json& required = schema.at("required");
  const bool is_required =
      required.is_array() && std::find(required.begin(), required.end(), Json(name)) != required.end();
  const Json& properties = schema.at("properties");
  if (!is_required || !properties.is_object() || !properties.contains(name)) return nullptr;
  const Json& property = properties.at(name);
  if (!property.is_object()) return nullptr;
  if (property.contains("const")) return &property.at("const");
  if (property.contains("enum") && property.at("enum").is_array() && property.at("enum").size() == 1) {
    return &property.at("enum")[0];
  }
  return nullptr;
}

bool Disjoint(const Json& a, const Json& b) {
  const std::set<std::string> types_a = TypeNames(a), types_b = TypeNames(b);
  if (!types_a.empty() && !types_b.empty() &&
      std::none_of(types_a.begin(), types_a.end(),
                   [&](const std::string& t) { return types_b.contains(t); })) {
    return true;
  }
  const std::set<std::string> object = {"object"};
  if (types_a != object || types_b != object || !a.contains("properties") || !a.at("properties").is_object())
    return false;
  for (const auto& [name, property] : a.at("properties").items()) {
    const Json *const tag_a = Tag(a, name), *const tag_b = Tag(b, name);
    if (tag_a != nullptr && tag_b != nullptr && *tag_a != *tag_b) return true;
  }
  return false;
}

}  // namespace

Status CheckDisjoint(const Json& root, const Json& options, std::string_view place) {
  std::vector<const Json*> followed;
  for (const Json& option : options) followed.push_back(&Follow(root, option));
  for (size_t i = 0; i < followed.size(); ++i) {
    for (size_t k = i + 1; k < followed.size(); ++k) {
      if (Disjoint(*followed[i], *followed[k])) continue;
      return RefuseSchema(
          place, absl::StrCat("options ", i, " and ", k,
                              " may both be valid; \"oneOf\" is served where options "
                              "differ in their type or in a required property's const; else use anyOf"));
    }
  }
  return absl::OkStatus();
}

}  // namespace coterie::grammar
