#include "model/grammar/schema_check.h"

#include <algorithm>
#include <map>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_replace.h"
#include "common/quoted.h"

namespace coterie::grammar {
namespace {

const absl::flat_hash_set<std::string>& Served() {
  static const auto& keywords = *new absl::flat_hash_set<std::string>{"type",
                                                                      "enum",
                                                                      "const",
                                                                      "anyOf",
                                                                      "oneOf",
                                                                      "allOf",
                                                                      "$ref",
                                                                      "$defs",
                                                                      "definitions",
                                                                      "properties",
                                                                      "required",
                                                                      "additionalProperties",
                                                                      "items",
                                                                      "prefixItems",
                                                                      "minItems",
                                                                      "maxItems",
                                                                      "minLength",
                                                                      "maxLength",
                                                                      "pattern",
                                                                      "format",
                                                                      "minimum",
                                                                      "maximum",
                                                                      "exclusiveMinimum",
                                                                      "exclusiveMaximum"};
  return keywords;
}

// A walk over a schema's parts that says whether each has a finite text, where definitions are known to or
// not.
class Ends {
 public:
  explicit Ends(const Json& root) : root_(root) {}

  Status Check() {
    order_.push_back(&root_);
    known_[&root_] = false;
    for (size_t i = 0; i < order_.size(); ++i)
      RETURN_IF_ERROR(Collect(*order_[i], /*direct=*/true, order_[i]));
    for (const Json* from : order_) RETURN_IF_ERROR(CheckDirect(from));
    for (bool changed = true; changed;) {
      changed = false;
      for (const Json* schema : order_) {
        if (known_[schema] || !Has(*schema)) continue;
        known_[schema] = changed = true;
      }
    }
    for (const Json* schema : order_) {
      if (!known_[schema])
        return RefuseSchema(places_[schema], "no finite text is valid: it requires itself");
    }
    return absl::OkStatus();
  }

 private:
  // Notes the definitions that `schema` refers to; `direct`: without a character before.
  Status Collect(const Json& schema, bool direct, const Json* owner) {
    if (!schema.is_object()) return absl::OkStatus();
    if (const auto ref = schema.find("$ref"); ref != schema.end()) {
      ASSIGN_OR_RETURN(const Json* const target, Resolve(root_, *ref, "#"));
      if (known_.emplace(target, false).second) {
        order_.push_back(target);
        places_[target] = ref->is_string() ? ref->get<std::string>() : "#";
      }
      if (direct) direct_[owner].push_back(target);
    }
    for (const char* key : {"anyOf", "oneOf", "allOf"}) {
      if (const auto found = schema.find(key); found != schema.end() && found->is_array()) {
        for (const Json& option : *found) RETURN_IF_ERROR(Collect(option, direct, owner));
      }
    }
    if (const auto found = schema.find("prefixItems"); found != schema.end() && found->is_array()) {
      for (const Json& item : *found) RETURN_IF_ERROR(Collect(item, false, owner));
    }
    for (const char* key : {"items", "additionalProperties"}) {
      if (const auto found = schema.find(key); found != schema.end())
        RETURN_IF_ERROR(Collect(*found, false, owner));
    }
    if (const auto found = schema.find("properties"); found != schema.end() && found->is_object()) {
      for (const auto& [name, property] : found->items()) RETURN_IF_ERROR(Collect(property, false, owner));
    }
    return absl::OkStatus();
  }

  Status CheckDirect(const Json* from) {
    absl::flat_hash_set<const Json*> seen;
    std::vector<const Json*> open = direct_[from];
    while (!open.empty()) {
      const Json* const at = open.back();
      open.pop_back();
      if (at == from) return RefuseSchema(places_[from], "\"$ref\": it refers to itself and nothing else");
      if (!seen.insert(at).second) continue;
      open.insert(open.end(), direct_[at].begin(), direct_[at].end());
    }
    return absl::OkStatus();
  }

  bool Has(const Json& schema) {
    if (!schema.is_object()) return true;
    if (const auto ref = schema.find("$ref"); ref != schema.end()) {
      const StatusOr<const Json*> target = Resolve(root_, *ref, "#");
      return !target.ok() || known_[*target];
    }
    if (schema.contains("enum") || schema.contains("const")) return true;
    for (const char* key : {"anyOf", "oneOf", "allOf"}) {
      const auto found = schema.find(key);
      if (found == schema.end() || !found->is_array() || found->empty()) continue;
      return std::any_of(found->begin(), found->end(), [this](const Json& option) { return Has(option); });
    }
    // A list of types has others than objects and lists, or these in both cases.
    const auto properties = schema.find("properties");
    const auto required = schema.find("required");
    if (properties != schema.end() && properties->is_object() && required != schema.end() &&
        required->is_array()) {
      for (const Json& name : *required) {
        if (!name.is_string()) continue;
        const auto property = properties->find(name.get<std::string>());
        if (property != properties->end() && !Has(*property)) return OtherType(schema, "object");
      }
    }
    const auto least = schema.find("minItems");
    const bool has_items = least != schema.end() && least->is_number() && least->get<double>() > 0;
    const auto items = schema.find("items");
    if (has_items && items != schema.end() && !Has(*items)) return OtherType(schema, "array");
    if (const auto found = schema.find("prefixItems"); found != schema.end() && found->is_array()) {
      for (const Json& item : *found) {
        if (!Has(item)) return OtherType(schema, "array");
      }
    }
    return true;
  }

  static bool OtherType(const Json& schema, std::string_view type) {
    const auto types = schema.find("type");
    if (types == schema.end() || !types->is_array()) return false;
    return std::any_of(types->begin(), types->end(),
                       [type](const Json& one) { return one.is_string() && one.get<std::string>() != type; });
  }

  const Json& root_;
  std::vector<const Json*> order_;
  std::map<const Json*, bool> known_;
  std::map<const Json*, std::string> places_;
  std::map<const Json*, std::vector<const Json*>> direct_;
};

}  // namespace

Status RefuseSchema(std::string_view place, std::string_view what) {
  return absl::InvalidArgumentError(
      absl::StrCat("JSON schema at ", place.empty() ? "#" : Shown(place, 200), ": ", ToAbsl(what)));
}

std::string Below(std::string_view place, std::string_view key) {
  return absl::StrCat(place.empty() ? "#" : ToAbsl(place), "/",
                      absl::StrReplaceAll(ToAbsl(key), {{"~", "~0"}, {"/", "~1"}}));
}

bool IsAnnotation(std::string_view keyword) {
  static const auto& annotations = *new absl::flat_hash_set<std::string>{
      "title", "description", "default",    "examples", "example",   "$schema",
      "$id",   "$comment",    "deprecated", "readOnly", "writeOnly", "discriminator"};
  return annotations.contains(std::string(keyword)) || keyword.substr(0, 2) == "x-";
}

Status CheckKeywords(const Json& schema, std::string_view place) {
  for (const auto& [keyword, value] : schema.items()) {
    if (IsAnnotation(keyword) || Served().contains(keyword)) continue;
    return RefuseSchema(place,
                        absl::StrCat("keyword ", Quoted(keyword),
                                     " is not served: an answer would not be held to it; leave it out"));
  }
  return absl::OkStatus();
}

StatusOr<const Json*> Resolve(const Json& root, const Json& reference, std::string_view place) {
  if (!reference.is_string()) return RefuseSchema(place, "\"$ref\" wants a string");
  const std::string& uri = reference.get_ref<const std::string&>();
  if (uri == "#") return &root;
  for (const std::string key : {"$defs", "definitions"}) {
    const std::string prefix = "#/" + key + "/";
    if (uri.compare(0, prefix.size(), prefix) != 0) continue;
    const std::string name = absl::StrReplaceAll(uri.substr(prefix.size()), {{"~1", "/"}, {"~0", "~"}});
    const auto definitions = root.find(key);
    if (definitions == root.end() || !definitions->is_object()) break;
    if (const auto found = definitions->find(name); found != definitions->end()) return &*found;
    break;
  }
  return RefuseSchema(
      place, absl::StrCat("\"$ref\" ", Quoted(uri),
                          " is not in the schema; \"#\", \"#/$defs/…\" and \"#/definitions/…\" are served"));
}

Status CheckEnds(const Json& root) { return Ends(root).Check(); }

}  // namespace coterie::grammar
