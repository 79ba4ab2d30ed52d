#include "tests/model/grammar/random_schemas.h"

#include <algorithm>

namespace coterie {
namespace {

class Maker {
 public:
  explicit Maker(std::mt19937_64* random) : random_(*random) {}

  int64_t Int(int64_t least, int64_t most) {
    return least + static_cast<int64_t>(random_() % static_cast<uint64_t>(most - least + 1));
  }
  bool Maybe() { return random_() % 2 == 0; }
  std::string Name() {
    static const std::vector<std::string> names = {"id",    "name", "a",           "b",       "wert",
                                                   "größe", "a/b",  "~x",          "q\"uote", "long name",
                                                   "",      "漢",   "back\\slash", "n\nl"};
    return names[random_() % names.size()] + (Maybe() ? std::to_string(random_() % 10) : "");
  }

  Json Of(const std::string& construct, int depth) {
    if (construct == "null" || construct == "boolean" || construct == "string" || construct == "integer" ||
        construct == "number") {
      return {{"type", construct}};
    }
    if (construct == "true") return true;
    if (construct == "empty") return Json::object();
    if (construct == "any object") return {{"type", "object"}};
    if (construct == "any array") return {{"type", "array"}};
    if (construct == "types") return Types();
    if (construct == "object") return Object(depth);
    if (construct == "map") return {{"type", "object"}, {"additionalProperties", Any(depth)}};
    if (construct == "items")
      return Bounded({{"type", "array"}, {"items", Any(depth)}}, "minItems", "maxItems", 5);
    if (construct == "prefixItems") return Prefix(depth);
    if (construct == "enum") return {{"enum", Values()}};
    if (construct == "enum with a type")
      return {{"type", "string"}, {"enum", {Name() + "x", Name() + "y", 3}}};
    if (construct == "const") return {{"const", Values()[0]}};
    if (construct == "anyOf") return {{"anyOf", {Any(depth), Any(depth), {{"type", "null"}}}}};
    if (construct == "allOf of one")
      return {{"allOf", Json::array({Any(depth)})}, {"description", "as older tools write"}};
    if (construct == "oneOf by type")
      return {{"oneOf", {{{"type", "string"}}, {{"type", "integer"}}, Object(depth)}}};
    if (construct == "oneOf by tag")
      return {{"oneOf", {Tagged("cat", depth), Tagged("dog", depth)}},
              {"discriminator", {{"propertyName", "kind"}}}};
    if (construct == "length") return Bounded({{"type", "string"}}, "minLength", "maxLength", 12);
    if (construct == "pattern") return {{"type", "string"}, {"pattern", Pattern()}};
    if (construct == "format") {
      static const char* const kFormats[] = {"date", "time", "date-time", "uuid", "ipv4", "email"};
      return {{"type", "string"}, {"format", kFormats[random_() % 6]}};
    }
    if (construct == "integer bounds") return Bounds("integer", 100'000'000'000);
    if (construct == "number bounds") return Bounds("number", 100'000'000);
    if (construct == "$ref") return Definitions(depth);
    if (construct == "recursion") {
      return {{"$defs",
               {{"node",
                 {{"type", "object"},
                  {"properties",
                   {{"v", Scalar()},
                    {"next", {{"anyOf", {{{"$ref", "#/$defs/node"}}, {{"type", "null"}}}}}},
                    {"all", {{"type", "array"}, {"items", {{"$ref", "#/$defs/node"}}}, {"maxItems", 2}}}}},
                  {"required", {"v"}}}}}},
              {"$ref", "#/$defs/node"}};
    }
    return {{"type", "object"},
            {"properties", {{"self", {{"$ref", "#"}}}, {"x", Scalar()}}},
            {"required", {"x"}}};  // "recursion to the root"
  }

  Json Scalar() {
    static const char* const kScalars[] = {"null",   "boolean",        "string", "integer", "number",
                                           "length", "integer bounds", "format", "enum",    "pattern"};
    return Of(kScalars[random_() % 10], 0);
  }
  Json Any(int depth) {
    if (depth <= 0 || random_() % 3 == 0) return Scalar();
    static const char* const kMore[] = {"object", "items", "map", "anyOf", "types", "prefixItems"};
    return Of(kMore[random_() % 6], depth - 1);
  }

 private:
  Json Object(int depth) {
    Json object = {{"type", "object"}, {"properties", Json::object()}};
    Json required = Json::array();
    for (int64_t n = Int(0, 5); n > 0; --n) {
      const std::string name = Name();
      if (object["properties"].contains(name)) continue;
      object["properties"][name] = Any(depth - 1);
      if (Maybe()) required.push_back(name);
    }
    if (!required.empty()) object["required"] = required;
    if (Maybe()) object["additionalProperties"] = false;
    if (Maybe()) object["title"] = "A title";
    return object;
  }

  Json Tagged(const std::string& tag, int depth) {
    Json object = {{"type", "object"},
                   {"properties", {{"kind", {{"const", tag}}}, {"more", Any(depth - 1)}}},
                   {"required", {"kind"}}};
    return object;
  }

  Json Types() {
    Json types = Json::array();
    for (const char* type : {"null", "boolean", "string", "integer", "array"}) {
      if (Maybe()) types.push_back(type);
    }
    if (types.empty()) types.push_back("number");
    return {{"type", types}, {"minLength", Int(0, 3)}, {"items", Scalar()}, {"minimum", Int(-5, 5)}};
  }

  Json Prefix(int depth) {
    Json array = {{"type", "array"}, {"prefixItems", Json::array()}};
    for (int64_t n = Int(0, 3); n > 0; --n) array["prefixItems"].push_back(Any(depth - 1));
    const int64_t kind = Int(0, 2);
    if (kind == 0) array["items"] = false;
    if (kind == 1) array["items"] = Scalar();
    if (kind == 1 && Maybe()) array["maxItems"] = Int(0, 5);
    return array;
  }

  Json Values() {
    Json values = Json::array();
    for (int64_t n = Int(1, 5); n > 0; --n) {
      switch (Int(0, 6)) {
        case 0:
          values.push_back(nullptr);
          break;
        case 1:
          values.push_back(Int(-1'000'000'000'000, 1'000'000'000'000));
          break;
        case 2:
          values.push_back(static_cast<double>(Int(-1000, 1000)) / 7);
          break;
        case 3:
          values.push_back({{Name(), Name()}, {"z", {1, "two", nullptr}}});
          break;
        case 4:
          values.push_back(Json::array({Name(), true}));
          break;
        default:
          values.push_back(Name());
      }
    }
    return values;
  }

  std::string Pattern() {
    static const char* const kPatterns[] = {
        "^[a-z]{3}-[0-9]+$",  "^(foo|bar)*baz$",   "^\\d{3}-\\d{4}$", "^.{2,5}$",      "^a\"b\\\\c$",
        "^[^a-z]+$",          "^\\w+@\\w+\\.com$", "^(a|b)?c*$",      "^x{0,3}[äöü]$", "[A-Z][a-z]+",
        "^\\S+( \\S+){0,2}$", "^\\x41\\u00e9$",    "^(?:ab|cd){2}$",  "^a+?b*?$",      "^[\\]\\-^]{2}$",
        "^\\t?\\n{1,2}$",     "^$|^yes$"};
    return kPatterns[random_() % std::size(kPatterns)];
  }

  Json Bounded(Json schema, const char* least, const char* most, int64_t far) {
    const int64_t a = Int(0, far), b = Int(a, far);
    const int64_t kind = Int(0, 2);
    if (kind != 1) schema[least] = a;
    if (kind != 0) schema[most] = b;
    return schema;
  }

  Json Bounds(const char* type, int64_t far) {
    Json schema = {{"type", type}};
    const int64_t span = Maybe() ? 30 : far;
    const int64_t a = Int(-span, span), b = Int(a + 2, span + 3);
    const int64_t kind = Int(0, 2);
    if (kind != 1) schema[Maybe() ? "minimum" : "exclusiveMinimum"] = a;
    if (kind != 0) schema[Maybe() ? "maximum" : "exclusiveMaximum"] = b;
    return schema;
  }

  Json Definitions(int depth) {
    return {{"$defs", {{"one", Any(depth)}, {"a/b~c", Any(depth)}}},
            {"type", "object"},
            {"properties",
             {{"x", {{"$ref", "#/$defs/one"}, {"description", "the first"}}},
              {"y", {{"type", "array"}, {"items", {{"$ref", "#/$defs/a~1b~0c"}}}, {"maxItems", 3}}}}},
            {"required", {"x"}}};
  }

  std::mt19937_64& random_;
};

}  // namespace

const std::vector<std::string>& SchemaConstructs() {
  static const auto& constructs = *new std::vector<std::string>{"null",
                                                                "boolean",
                                                                "string",
                                                                "integer",
                                                                "number",
                                                                "true",
                                                                "empty",
                                                                "any object",
                                                                "any array",
                                                                "types",
                                                                "object",
                                                                "map",
                                                                "items",
                                                                "prefixItems",
                                                                "enum",
                                                                "enum with a type",
                                                                "const",
                                                                "anyOf",
                                                                "allOf of one",
                                                                "oneOf by type",
                                                                "oneOf by tag",
                                                                "length",
                                                                "pattern",
                                                                "format",
                                                                "integer bounds",
                                                                "number bounds",
                                                                "$ref",
                                                                "recursion",
                                                                "recursion to the root"};
  return constructs;
}

Json RandomSchema(const std::string& construct, std::mt19937_64* random) {
  return Maker(random).Of(construct, 2);
}

}  // namespace coterie
