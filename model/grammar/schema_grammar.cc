#include "model/grammar/schema_grammar.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <optional>
#include <set>
#include <utility>
#include <vector>

#include "absl/strings/str_join.h"
#include "common/constraint.h"
#include "common/json.h"
#include "common/quoted.h"
#include "model/grammar/char_set.h"
#include "model/grammar/number_grammar.h"
#include "model/grammar/regex_grammar.h"
#include "model/grammar/schema_check.h"

namespace coterie::grammar {
namespace {

// Characters of a JSON string. Surrogates only as characters themselves: half of a pair is no text. Written
// so that the library knows a string's state by one rule: a mask within a string is then a look-up.
constexpr std::string_view kCommonRules = R"(
escape ::= ["\\/bfnrt] | "u" ([0-9a-cefA-CEF] [0-9a-fA-F] [0-9a-fA-F] [0-9a-fA-F] | [dD] [0-7] [0-9a-fA-F] [0-9a-fA-F])
rest ::= "\"" | [\u0020-\u0021\u0023-\u005B\u005D-\u007F\u0080-\u07FF\u0800-\uD7FF\uE000-\uFFFF\U00010000-\U0010FFFF] rest | "\\" escape rest
string ::= "\"" rest
number ::= "-"? ("0" | [1-9] [0-9]{0,14}) ("." [0-9]{1,16})? ([eE] [+\-]? [0-9]{1,2})?
object ::= "{" (string ": " any (", " string ": " any)*)? "}"
array ::= "[" (any (", " any)*)? "]"
any ::= object | array | string | number | "true" | "false" | "null"
)";

constexpr std::string_view kDate =
    "(\\d{3}[1-9]-(0[13578]|1[02])-(0[1-9]|[12]\\d|3[01])|\\d{3}[1-9]-(0[469]|11)-(0[1-9]|[12]\\d|30)|"
    "\\d{3}[1-9]-02-(0[1-9]|1\\d|2[0-8]))";
constexpr std::string_view kTime =
    "([01]\\d|2[0-3]):[0-5]\\d:[0-5]\\d(\\.\\d{1,6})?(Z|[+-](0\\d|1[0-3]):[0-5]\\d)";

// Regular expressions of the formats that are served.
std::optional<std::string> FormatRegex(const std::string& format) {
  if (format == "date") return std::string(kDate);
  if (format == "time") return std::string(kTime);
  if (format == "date-time") return absl::StrCat(ToAbsl(kDate), "T", ToAbsl(kTime));
  if (format == "uuid") return "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}";
  if (format == "ipv4") {
    return "((25[0-5]|2[0-4]\\d|1\\d\\d|[1-9]?\\d)\\.){3}(25[0-5]|2[0-4]\\d|1\\d\\d|[1-9]?\\d)";
  }
  if (format == "email")
    return "[A-Za-z0-9_+-]{1,32}(\\.[A-Za-z0-9_+-]{1,16}){0,2}@([a-z0-9]{1,20}\\.){1,3}[a-z]{2,8}";
  return std::nullopt;
}

enum class Type { kNull, kBoolean, kInteger, kNumber, kString, kArray, kObject };
constexpr std::pair<std::string_view, Type> kTypes[] = {
    {"null", Type::kNull},     {"boolean", Type::kBoolean}, {"integer", Type::kInteger},
    {"number", Type::kNumber}, {"string", Type::kString},   {"array", Type::kArray},
    {"object", Type::kObject}};

bool HasType(const Json& value, Type type) {
  switch (type) {
    case Type::kNull:
      return value.is_null();
    case Type::kBoolean:
      return value.is_boolean();
    case Type::kInteger:
      return value.is_number_integer() ||
             (value.is_number() && std::floor(value.get<double>()) == value.get<double>());
    case Type::kNumber:
      return value.is_number();
    case Type::kString:
      return value.is_string();
    case Type::kArray:
      return value.is_array();
    case Type::kObject:
      return value.is_object();
  }
  return false;
}

class Writer {
 public:
  explicit Writer(const Json& root) : root_(root) {}

  StatusOr<std::string> Write() {
    RETURN_IF_ERROR(CheckEnds(root_));
    ASSIGN_OR_RETURN(const std::string root, Definition(root_, "#"));
    std::string out = absl::StrCat("root ::= ", root, "\n");
    for (const auto& [name, body] : rules_) absl::StrAppend(&out, name, " ::= ", body, "\n");
    return absl::StrCat(out, ToAbsl(kCommonRules));
  }

 private:
  // The rule of a schema that references point at, written once.
  StatusOr<std::string> Definition(const Json& schema, std::string_view place) {
    if (const auto found = definitions_.find(&schema); found != definitions_.end()) return found->second;
    const std::string name = absl::StrCat("d", definitions_.size());
    definitions_[&schema] = name;
    const double outside = std::exchange(times_, 1);
    ASSIGN_OR_RETURN(const std::string body, Node(schema, place));
    times_ = outside;
    rules_.emplace_back(name, body);
    return name;
  }

  std::string Rule(std::string body) {
    rules_.emplace_back(absl::StrCat("n", rules_.size()), std::move(body));
    return rules_.back().first;
  }

  // Counts what is written out, as often as the lists around it repeat it.
  Status Spend(double size, std::string_view place) {
    size_ += size * times_;
    if (size_ <= kMaxSchemaSize) return absl::OkStatus();
    return RefuseSchema(
        place,
        absl::StrCat("the schema is too large once its lists and lengths are written out (", kMaxSchemaSize,
                     "); lower minItems, maxItems, minLength, maxLength or the pattern's repetitions"));
  }

  StatusOr<std::string> Node(const Json& schema, std::string_view place) {
    if (++n_nodes_ > kMaxSchemaNodes) {
      return RefuseSchema(place, absl::StrCat("more than ", kMaxSchemaNodes, " schemas within the schema"));
    }
    RETURN_IF_ERROR(Spend(1, place));
    if (schema.is_boolean()) {
      if (schema.get<bool>()) return std::string("any");
      return RefuseSchema(place, "false: nothing is valid");
    }
    if (!schema.is_object()) return RefuseSchema(place, "a schema is an object, true or false");
    RETURN_IF_ERROR(CheckKeywords(schema, place));
    if (schema.contains("$ref")) return Reference(schema, place);
    for (const char* keyword : {"anyOf", "oneOf", "allOf"}) {
      if (schema.contains(keyword)) return Options(schema, keyword, place);
    }
    if (schema.contains("enum") || schema.contains("const")) return Values(schema, place);
    ASSIGN_OR_RETURN(const std::vector<Type> types, TypesOf(schema, place));
    std::vector<std::string> choices;
    for (const Type type : types) {
      ASSIGN_OR_RETURN(std::string one, OfType(schema, type, place));
      choices.push_back(std::move(one));
    }
    if (choices.empty()) return std::string("any");
    return choices.size() == 1 ? choices[0] : Rule(absl::StrJoin(choices, " | "));
  }

  // `keyword` stands alone, but for annotations and definitions.
  static Status Alone(const Json& schema, std::string_view keyword, std::string_view place) {
    for (const auto& [other, value] : schema.items()) {
      if (other == keyword || IsAnnotation(other) || other == "$defs" || other == "definitions") continue;
      return RefuseSchema(
          place, absl::StrCat("keyword ", Quoted(other), " beside ", Quoted(keyword), " is not served"));
    }
    return absl::OkStatus();
  }

  StatusOr<std::string> Reference(const Json& schema, std::string_view place) {
    RETURN_IF_ERROR(Alone(schema, "$ref", place));
    ASSIGN_OR_RETURN(const Json* const target, Resolve(root_, schema.at("$ref"), place));
    return Definition(*target, schema.at("$ref").get<std::string>());
  }

  StatusOr<std::string> Options(const Json& schema, const std::string& keyword, std::string_view place) {
    const Json& options = schema.at(keyword);
    const std::string below = Below(place, keyword);
    if (!options.is_array() || options.empty()) return RefuseSchema(below, "wants a list of schemas");
    if (options.size() > 1 || keyword != "allOf") {
      // A type that all options have anyway is no condition of its own.
      Json rest = schema;
      if (schema.contains("type") && std::all_of(options.begin(), options.end(), [&](const Json& option) {
            return option.is_object() && option.contains("type") && option.at("type") == schema.at("type");
          })) {
        rest.erase("type");
      }
      RETURN_IF_ERROR(Alone(rest, keyword, place));
    } else {
      RETURN_IF_ERROR(Alone(schema, keyword, place));
    }
    if (keyword == "allOf" && options.size() > 1) {
      return RefuseSchema(place, "keyword \"allOf\" of several schemas is not served; write them as one");
    }
    if (keyword == "oneOf" && options.size() > 1) RETURN_IF_ERROR(CheckDisjoint(root_, options, below));
    std::vector<std::string> choices;
    for (size_t i = 0; i < options.size(); ++i) {
      ASSIGN_OR_RETURN(std::string one, Node(options[i], Below(below, absl::StrCat(i))));
      choices.push_back(std::move(one));
    }
    return choices.size() == 1 ? choices[0] : Rule(absl::StrJoin(choices, " | "));
  }

  StatusOr<std::string> Values(const Json& schema, std::string_view place) {
    const std::string keyword = schema.contains("enum") ? "enum" : "const";
    Json rest = schema;
    rest.erase("type");
    RETURN_IF_ERROR(Alone(rest, keyword, place));
    const Json& given = schema.at(keyword);
    if (keyword == "enum" && (!given.is_array() || given.empty())) {
      return RefuseSchema(Below(place, keyword), "wants a list of values, at least one");
    }
    const Json values = keyword == "enum" ? given : Json::array({given});
    std::vector<Type> types;
    if (schema.contains("type")) {
      ASSIGN_OR_RETURN(types, TypesOf(schema, place));
    }
    std::set<std::string> texts;
    for (const Json& value : values) {
      const bool fits = types.empty() || std::any_of(types.begin(), types.end(),
                                                     [&](Type type) { return HasType(value, type); });
      if (fits) texts.insert(value.dump());
    }
    if (texts.empty()) return RefuseSchema(Below(place, keyword), "no value has the schema's type");
    n_enum_values_ += texts.size();
    if (n_enum_values_ > kMaxEnumValues) {
      return RefuseSchema(Below(place, keyword),
                          absl::StrCat("more than ", kMaxEnumValues, " values in the schema's enums"));
    }
    std::vector<std::string> choices;
    for (const std::string& text : texts) {
      RETURN_IF_ERROR(Spend(static_cast<double>(text.size()), place));
      choices.push_back(Literal(text));
    }
    return choices.size() == 1 ? choices[0] : Rule(absl::StrJoin(choices, " | "));
  }

  // Named, or told by the keywords that speak of one; none: any.
  StatusOr<std::vector<Type>> TypesOf(const Json& schema, std::string_view place) const {
    std::vector<Type> types;
    if (schema.contains("type")) {
      const Json& given = schema.at("type");
      const Json names = given.is_array() ? given : Json::array({given});
      for (const Json& name : names) {
        const auto known = std::find_if(std::begin(kTypes), std::end(kTypes), [&](const auto& type) {
          return name.is_string() && name.get<std::string>() == type.first;
        });
        if (known == std::end(kTypes)) {
          return RefuseSchema(Below(place, "type"),
                              absl::StrCat(Shown(JsonText(name)), " is no type of JSON"));
        }
        types.push_back(known->second);
      }
      if (types.empty()) return RefuseSchema(Below(place, "type"), "wants a type or a list of them");
      return types;
    }
    const auto any_of = [&](std::initializer_list<const char*> keywords) {
      return std::any_of(keywords.begin(), keywords.end(),
                         [&](const char* keyword) { return schema.contains(keyword); });
    };
    if (any_of({"properties", "required", "additionalProperties"}))
      types.push_back(Type::kObject);
    else if (any_of({"items", "prefixItems", "minItems", "maxItems"}))
      types.push_back(Type::kArray);
    else if (any_of({"minLength", "maxLength", "pattern", "format"}))
      types.push_back(Type::kString);
    else if (any_of({"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"}))
      types.push_back(Type::kNumber);
    return types;
  }

  StatusOr<std::string> OfType(const Json& schema, Type type, std::string_view place) {
    switch (type) {
      case Type::kNull:
        return std::string("\"null\"");
      case Type::kBoolean:
        return std::string("(\"true\" | \"false\")");
      case Type::kInteger:
      case Type::kNumber:
        return OfNumber(schema, type == Type::kInteger, place);
      case Type::kString:
        return OfString(schema, place);
      case Type::kArray:
        return OfArray(schema, place);
      case Type::kObject:
        return OfObject(schema, place);
    }
    return absl::InternalError("no such type");
  }

  // A bound that is an integer; nothing where there is none.
  static StatusOr<std::optional<int64_t>> Bound(const Json& schema, const char* keyword, int64_t least,
                                                int64_t most, std::string_view place) {
    const auto found = schema.find(keyword);
    if (found == schema.end()) return std::nullopt;
    if (found->is_number() && std::floor(found->get<double>()) == found->get<double>() &&
        found->get<double>() >= static_cast<double>(least) &&
        found->get<double>() <= static_cast<double>(most)) {
      return found->get<int64_t>();
    }
    return RefuseSchema(
        Below(place, keyword),
        absl::StrCat(Shown(JsonText(*found)), " is not served; integers from ", least, " to ", most, " are"));
  }

  static StatusOr<std::string> OfNumber(const Json& schema, bool is_integer, std::string_view place) {
    const int64_t far = is_integer ? kMaxInteger / 1000 : kMaxNumberBound;
    NumberBounds bounds;
    ASSIGN_OR_RETURN(bounds.least, Bound(schema, "minimum", -far, far, place));
    ASSIGN_OR_RETURN(bounds.most, Bound(schema, "maximum", -far, far, place));
    ASSIGN_OR_RETURN(const std::optional<int64_t> above, Bound(schema, "exclusiveMinimum", -far, far, place));
    ASSIGN_OR_RETURN(const std::optional<int64_t> below, Bound(schema, "exclusiveMaximum", -far, far, place));
    if (above && (!bounds.least || *above >= *bounds.least)) bounds.least = above, bounds.above = true;
    if (below && (!bounds.most || *below <= *bounds.most)) bounds.most = below, bounds.below = true;
    std::optional<std::string> grammar = is_integer ? IntegerGrammar(bounds) : NumberGrammar(bounds);
    if (!grammar) return RefuseSchema(place, "no number lies between its bounds");
    return *std::move(grammar);
  }

  StatusOr<std::string> OfString(const Json& schema, std::string_view place) {
    const auto pattern = schema.find("pattern");
    const auto format = schema.find("format");
    ASSIGN_OR_RETURN(const std::optional<int64_t> least,
                     Bound(schema, "minLength", 0, kMaxLengthBound, place));
    ASSIGN_OR_RETURN(const std::optional<int64_t> most,
                     Bound(schema, "maxLength", 0, kMaxLengthBound, place));
    const bool has_length = least || most;
    if (pattern == schema.end() && format == schema.end()) {
      if (!has_length) return std::string("string");
      if (most && least.value_or(0) > *most) return RefuseSchema(place, "minLength is above maxLength");
      RETURN_IF_ERROR(Spend(static_cast<double>(most.value_or(least.value_or(0))), place));
      return absl::StrCat(
          "(\"\\\"\" "
          "[\\u0020-\\u0021\\u0023-\\u005B\\u005D-\\u007F\\u0080-\\u07FF\\u0800-\\uD7FF\\uE000-"
          "\\uFFFF\\U00010000-\\U0010FFFF]{",
          least.value_or(0), ",", most ? absl::StrCat(*most) : "", "} \"\\\"\")");
    }
    if (has_length) {
      return RefuseSchema(
          place,
          "minLength and maxLength beside a pattern or a format are not served; say it in the pattern");
    }
    std::string regex;
    if (format != schema.end()) {
      if (pattern != schema.end()) return RefuseSchema(place, "a pattern beside a format is not served");
      const std::optional<std::string> known =
          format->is_string() ? FormatRegex(format->get<std::string>()) : std::nullopt;
      if (!known) {
        return RefuseSchema(Below(place, "format"),
                            absl::StrCat(Shown(JsonText(*format)),
                                         " is not served; date, date-time, time, uuid, "
                                         "ipv4 and email are"));
      }
      regex = *known;
    } else if (pattern->is_string()) {
      regex = pattern->get<std::string>();
    } else {
      return RefuseSchema(Below(place, "pattern"), "wants a string");
    }
    const StatusOr<std::string> inside = RegexGrammar(regex, RegexText::kJsonString);
    if (!inside.ok()) return RefuseSchema(Below(place, "pattern"), ToStd(inside.status().message()));
    RETURN_IF_ERROR(Spend(static_cast<double>(inside->size()) / 8, place));
    return absl::StrCat("(\"\\\"\" (", *inside, ") \"\\\"\")");
  }

  StatusOr<std::string> OfArray(const Json& schema, std::string_view place) {
    ASSIGN_OR_RETURN(const std::optional<int64_t> min_items,
                     Bound(schema, "minItems", 0, kMaxItemsBound, place));
    ASSIGN_OR_RETURN(const std::optional<int64_t> max_items,
                     Bound(schema, "maxItems", 0, kMaxItemsBound, place));
    if (max_items && min_items.value_or(0) > *max_items)
      return RefuseSchema(place, "minItems is above maxItems");
    std::vector<std::string> first;
    const auto prefix = schema.find("prefixItems");
    if (prefix != schema.end()) {
      if (!prefix->is_array()) return RefuseSchema(Below(place, "prefixItems"), "wants a list of schemas");
      const size_t n = std::min(prefix->size(), static_cast<size_t>(max_items.value_or(kMaxItemsBound)));
      for (size_t i = 0; i < n; ++i) {
        ASSIGN_OR_RETURN(std::string item,
                         Node((*prefix)[i], Below(Below(place, "prefixItems"), absl::StrCat(i))));
        first.push_back(std::move(item));
      }
    }
    const auto n_first = static_cast<int64_t>(first.size());
    const int64_t least = std::max<int64_t>(0, min_items.value_or(0) - n_first);
    std::optional<int64_t> most;
    if (max_items) most = std::max<int64_t>(0, *max_items - n_first);
    const auto items = schema.find("items");
    const bool none = items != schema.end() && *items == Json(false);
    if (items != schema.end() && items->is_array()) {
      return RefuseSchema(Below(place, "items"), "a list of schemas is not served; \"prefixItems\" is");
    }
    if (none || (prefix != schema.end() && items == schema.end() && least == 0)) most = 0;
    if (most && *most < least) return RefuseSchema(place, "minItems asks for more items than there may be");
    if (!most || *most > 0) {
      std::string item = "any";
      if (items != schema.end()) {
        const double outside = times_;
        times_ *= static_cast<double>(std::max<int64_t>({1, least, most.value_or(1)}));
        ASSIGN_OR_RETURN(item, Node(*items, Below(place, "items")));
        times_ = outside;
      } else {
        RETURN_IF_ERROR(Spend(static_cast<double>(std::max<int64_t>({1, least, most.value_or(1)})), place));
      }
      if (item.find(' ') != std::string::npos) item = Rule(std::move(item));
      return ArrayOf(first, item, least, most);
    }
    return ArrayOf(first, "", 0, 0);
  }

  // `first`, then from `least` to `most` of `item`.
  std::string ArrayOf(const std::vector<std::string>& first, const std::string& item, int64_t least,
                      const std::optional<int64_t>& most) {
    std::string body = absl::StrJoin(first, " \", \" ");
    if (!item.empty()) {
      const auto repeated = [&](int64_t from, const std::optional<int64_t>& to) {
        return absl::StrCat("(\", \" ", item, "){", from, ",", to ? absl::StrCat(*to) : "", "}");
      };
      if (!first.empty()) {
        absl::StrAppend(&body, " ", repeated(least, most));
      } else {
        std::optional<int64_t> rest;
        if (most) rest = *most - 1;
        body = absl::StrCat("(", item, " ", repeated(std::max<int64_t>(0, least - 1), rest), ")",
                            least == 0 ? "?" : "");
      }
    }
    return Rule(body.empty() ? "\"[]\"" : absl::StrCat("\"[\" ", body, " \"]\""));
  }

  StatusOr<std::string> OfObject(const Json& schema, std::string_view place) {
    const auto properties = schema.find("properties");
    const auto additional = schema.find("additionalProperties");
    if (properties != schema.end() && !properties->is_object()) {
      return RefuseSchema(Below(place, "properties"), "wants an object of schemas");
    }
    if (additional != schema.end() && !additional->is_boolean() && !additional->is_object()) {
      return RefuseSchema(Below(place, "additionalProperties"), "wants a schema, true or false");
    }
    std::set<std::string> required;
    if (const auto names = schema.find("required"); names != schema.end()) {
      if (!names->is_array()) return RefuseSchema(Below(place, "required"), "wants a list of names");
      for (const Json& name : *names) {
        if (!name.is_string()) return RefuseSchema(Below(place, "required"), "wants a list of names");
        if (properties == schema.end() || !properties->contains(name.get<std::string>())) {
          return RefuseSchema(Below(place, "required"),
                              absl::StrCat(Quoted(name.get<std::string>()), " is not among the properties"));
        }
        required.insert(name.get<std::string>());
      }
    }
    if (properties == schema.end() || properties->empty())
      return OfMap(additional == schema.end() ? Json(true) : *additional, place);

    std::vector<std::pair<std::string, bool>> written;  // `"name": value`, whether required
    for (const auto& [name, property] : properties->items()) {
      if (name.find('\0') != std::string::npos)
        return RefuseSchema(Below(place, "properties"), "U+0000 in a name is not served");
      ASSIGN_OR_RETURN(const std::string value, Node(property, Below(Below(place, "properties"), name)));
      RETURN_IF_ERROR(Spend(static_cast<double>(name.size()), place));
      written.emplace_back(absl::StrCat(Literal(absl::StrCat(Json(name).dump(), ": ")), " ", Grouped(value)),
                           required.contains(name));
    }
    return Rule(PropertiesInOrder(written));
  }

  static std::string Grouped(const std::string& expression) {
    return expression.find(' ') == std::string::npos ? expression : absl::StrCat("(", expression, ")");
  }

  StatusOr<std::string> OfMap(const Json& additional, std::string_view place) {
    if (additional == Json(true)) return std::string("object");
    if (additional == Json(false)) return std::string("\"{}\"");
    ASSIGN_OR_RETURN(const std::string value, Node(additional, Below(place, "additionalProperties")));
    const std::string entry = Rule(absl::StrCat("string \": \" ", Grouped(value)));
    return Rule(absl::StrCat("\"{\" (", entry, " (\", \" ", entry, ")*)? \"}\""));
  }

  // From the last to the first: two rules a property, for what follows where nothing or something stands
  // before it.
  std::string PropertiesInOrder(const std::vector<std::pair<std::string, bool>>& written) {
    std::string begins = "\"\"", goes_on = "\"\"";
    for (size_t i = written.size(); i-- > 0;) {
      const auto& [property, is_required] = written[i];
      const std::string one = Rule(property);
      const std::string first = absl::StrCat(one, " ", goes_on),
                        later = absl::StrCat("\", \" ", one, " ", goes_on);
      begins = Rule(is_required ? first : absl::StrCat(first, " | ", begins));
      goes_on = Rule(is_required ? later : absl::StrCat(later, " | ", goes_on));
    }
    return absl::StrCat("\"{\" ", begins, " \"}\"");
  }

  const Json& root_;
  std::map<const Json*, std::string> definitions_;
  std::vector<std::pair<std::string, std::string>> rules_;
  size_t n_nodes_ = 0, n_enum_values_ = 0;
  double size_ = 0, times_ = 1;
};

}  // namespace

StatusOr<std::string> SchemaGrammar(std::string_view schema) {
  ASSIGN_OR_RETURN(const Json root, ParseJson(schema, "JSON schema",
                                              {.max_bytes = kMaxConstraintBytes,
                                               .max_depth = kMaxSchemaDepth,
                                               .max_values = kMaxSchemaValues}));
  return Writer(root).Write();
}

}  // namespace coterie::grammar
