#include "gateway/http/api/constraint_fields.h"

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "common/json.h"
#include "common/refused_field.h"
#include "gateway/core/request.h"

namespace coterie::gateway::http {
namespace {

constexpr const char* kAnyObject = R"({"type": "object"})";

// Gathers the one constraint that a body may have.
class ConstraintReader {
 public:
  ConstraintReader(const JsonObject& body, std::string_view raw) : body_(body), raw_(raw) {}

  StatusOr<Constraint> Read() {
    RETURN_IF_ERROR(ReadResponseFormat());
    RETURN_IF_ERROR(ReadKinds(body_, {}, {"guided_json", "guided_regex", "guided_choice"}));
    if (const nlohmann::json* structured = body_.Find("structured_outputs")) {
      ASSIGN_OR_RETURN(const JsonObject object, JsonObject::Of(*structured, "structured_outputs"));
      for (const auto& [key, value] : structured->items()) {
        const bool known = key == "json" || key == "regex" || key == "choice" || key == "json_object";
        if (!known && !value.is_null() && value != nlohmann::json(false)) {
          return object.Refuse(key, "\"json\", \"json_object\", \"regex\" and \"choice\" are served here");
        }
      }
      RETURN_IF_ERROR(ReadKinds(object, {"structured_outputs"}, {"json", "regex", "choice"}));
      ASSIGN_OR_RETURN(const auto any_object, object.Bool("json_object"));
      if (any_object.value_or(false)) {
        RETURN_IF_ERROR(Take({Constraint::Kind::kJsonSchema, kAnyObject, {}}, object.PathOf("json_object")));
      }
    }
    return std::move(constraint_);
  }

 private:
  Status ReadResponseFormat() {
    const nlohmann::json* format = body_.Find("response_format");
    if (format == nullptr) return absl::OkStatus();
    ASSIGN_OR_RETURN(const JsonObject object, JsonObject::Of(*format, "response_format"));
    ASSIGN_OR_RETURN(const auto type, object.String("type"));
    if (type == "text") return absl::OkStatus();
    if (type == "json_object")
      return Take({Constraint::Kind::kJsonSchema, kAnyObject, {}}, "response_format");
    if (type != "json_schema") {
      return object.Refuse("type", "\"text\", \"json_object\" and \"json_schema\" are served here");
    }
    const nlohmann::json* wrapped = object.Find("json_schema");
    if (wrapped == nullptr)
      return object.Refuse("json_schema", "an object with a name and a schema is expected");
    ASSIGN_OR_RETURN(const JsonObject inside, JsonObject::Of(*wrapped, "response_format.json_schema"));
    const nlohmann::json* schema = inside.Find("schema");
    if (schema == nullptr) return inside.Refuse("schema", "a JSON schema is expected");
    return TakeSchema(*schema, {"response_format", "json_schema", "schema"}, inside.PathOf("schema"));
  }

  // The fields that hold a schema, a regex and a choice, at `place` in the body.
  Status ReadKinds(const JsonObject& object, std::vector<std::string> place, const char* const (&names)[3]) {
    if (const nlohmann::json* schema = object.Find(names[0])) {
      place.push_back(names[0]);
      RETURN_IF_ERROR(TakeSchema(*schema, place, object.PathOf(names[0])));
    }
    ASSIGN_OR_RETURN(auto regex, object.String(names[1]));
    if (regex) {
      RETURN_IF_ERROR(Take({Constraint::Kind::kRegex, *std::move(regex), {}}, object.PathOf(names[1])));
    }
    ASSIGN_OR_RETURN(auto choices, object.Strings(names[2], /*or_one=*/false));
    if (choices) {
      RETURN_IF_ERROR(Take({Constraint::Kind::kChoice, "", *std::move(choices)}, object.PathOf(names[2])));
    }
    return absl::OkStatus();
  }

  // A schema as an object or, as vLLM takes it too, as the text of one.
  Status TakeSchema(const nlohmann::json& schema, const std::vector<std::string>& place,
                    const std::string& field) {
    std::string text =
        schema.is_string() ? schema.get<std::string>() : InItsOrder(place).value_or(schema.dump());
    return Take({Constraint::Kind::kJsonSchema, std::move(text), {}}, field);
  }

  std::optional<std::string> InItsOrder(const std::vector<std::string>& place) const {
    // The one that keeps the order of keys.
    const coterie::Json whole =
        coterie::Json::parse(raw_.begin(), raw_.end(), nullptr, /*allow_exceptions=*/false);
    const coterie::Json* at = &whole;
    for (const std::string& key : place) {
      if (!at->is_object() || !at->contains(key)) return std::nullopt;
      at = &at->at(key);
    }
    return at->dump();
  }

  Status Take(Constraint constraint, const std::string& field) {
    if (constraint_) {
      return OfField(absl::InvalidArgumentError(
                         absl::StrCat(field, " is given beside ", field_, "; leave one of the two out")),
                     field);
    }
    RETURN_IF_ERROR(CheckConstraint(constraint, field));
    constraint_ = std::move(constraint);
    field_ = field;
    return absl::OkStatus();
  }

  const JsonObject& body_;
  const std::string_view raw_;
  Constraint constraint_;
  std::string field_;
};

}  // namespace

StatusOr<Constraint> ReadConstraint(const JsonObject& body, std::string_view raw) {
  return ConstraintReader(body, raw).Read();
}

}  // namespace coterie::gateway::http
