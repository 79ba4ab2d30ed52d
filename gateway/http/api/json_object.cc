#include "gateway/http/api/json_object.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "common/json.h"
#include "common/quoted.h"
#include "common/refused_field.h"
#include "common/utf8.h"

namespace coterie::gateway::http {
namespace {

// More than any request needs: a conversation of 1,024 messages in parts, a prompt as 100,000 token ids.
constexpr JsonLimits kBodyLimits = {.max_bytes = size_t{256} << 20, .max_depth = 64, .max_values = 200'000};

// As it stands, cut short: for messages.
std::string ShortJson(const nlohmann::json& value) {
  constexpr size_t kShownBytes = 80;
  if (value.is_object()) return value.empty() ? "{}" : "an object";
  if (value.is_array()) return value.empty() ? "[]" : "a list";
  const std::string text = value.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  if (text.size() <= kShownBytes) return text;
  return absl::StrCat(ToAbsl(CutUtf8(text, kShownBytes)), "…");
}

std::optional<int64_t> ToInt(const nlohmann::json& value) {
  if (value.is_number_unsigned()) {
    const auto number = value.get<uint64_t>();
    if (number > static_cast<uint64_t>(INT64_MAX)) return std::nullopt;
    return static_cast<int64_t>(number);
  }
  if (value.is_number_integer()) return value.get<int64_t>();
  if (!value.is_number_float()) return std::nullopt;
  constexpr double kExact = 9007199254740992.0;  // 2^53
  const auto number = value.get<double>();
  if (!(std::fabs(number) <= kExact) || number != std::trunc(number)) return std::nullopt;
  return static_cast<int64_t>(number);
}

}  // namespace

StatusOr<nlohmann::json> ParseBody(std::string_view body) {
  if (body.empty()) return absl::InvalidArgumentError("the body is empty; a JSON object is expected");
  if (const Status status = CheckJson(body, kBodyLimits); !status.ok()) return Annotate(status, "the body");
  nlohmann::json json = nlohmann::json::parse(body.begin(), body.end(), nullptr, /*allow_exceptions=*/false);
  if (!json.is_object()) {
    return absl::InvalidArgumentError(
        absl::StrCat("the body is ", ShortJson(json), "; a JSON object is expected"));
  }
  return json;
}

Status RefuseValue(std::string_view path, const nlohmann::json& value, std::string_view words) {
  return OfField(
      absl::InvalidArgumentError(absl::StrCat(ToAbsl(path), " is ", ShortJson(value), "; ", ToAbsl(words))),
      path);
}

StatusOr<JsonObject> JsonObject::Of(const nlohmann::json& value, std::string path) {
  if (!value.is_object()) return RefuseValue(path, value, "an object is expected");
  return JsonObject(&value, std::move(path));
}

const nlohmann::json* JsonObject::Find(std::string_view key) const {
  const auto it = object_->find(key);
  return it == object_->end() || it->is_null() ? nullptr : &*it;
}

std::string JsonObject::PathOf(std::string_view key) const {
  return path_.empty() ? std::string(key) : absl::StrCat(path_, ".", ToAbsl(key));
}

Status JsonObject::Refuse(std::string_view key, std::string_view words) const {
  const auto it = object_->find(key);
  if (it != object_->end()) return RefuseValue(PathOf(key), *it, words);
  const std::string path = PathOf(key);
  return OfField(absl::InvalidArgumentError(absl::StrCat(path, " is missing; ", ToAbsl(words))), path);
}

Status JsonObject::RefuseOthers(std::initializer_list<std::string_view> known) const {
  for (const auto& [key, value] : object_->items()) {
    if (std::find(known.begin(), known.end(), key) != known.end()) continue;
    const std::string path = Shown(PathOf(key));
    std::string words = absl::StrCat(path, " is not known here; known are");
    for (const std::string_view name : known) {
      absl::StrAppend(&words, name == *known.begin() ? " " : ", ", Quoted(name));
    }
    return OfField(absl::InvalidArgumentError(words), path);
  }
  return absl::OkStatus();
}

StatusOr<std::optional<bool>> JsonObject::Bool(std::string_view key) const {
  const nlohmann::json* value = Find(key);
  if (value == nullptr) return std::nullopt;
  if (!value->is_boolean()) return Refuse(key, "true or false is expected");
  return value->get<bool>();
}

StatusOr<std::optional<int64_t>> JsonObject::Int(std::string_view key, int64_t min, int64_t max) const {
  const nlohmann::json* value = Find(key);
  if (value == nullptr) return std::nullopt;
  const std::optional<int64_t> number = ToInt(*value);
  if (!number || *number < min || *number > max) {
    return Refuse(key, absl::StrCat("an integer from ", min, " to ", max, " is expected"));
  }
  return number;
}

StatusOr<std::optional<double>> JsonObject::Number(std::string_view key) const {
  const nlohmann::json* value = Find(key);
  if (value == nullptr) return std::nullopt;
  if (!value->is_number()) return Refuse(key, "a number is expected");
  return value->get<double>();
}

StatusOr<std::optional<std::string>> JsonObject::String(std::string_view key) const {
  const nlohmann::json* value = Find(key);
  if (value == nullptr) return std::nullopt;
  if (!value->is_string()) return Refuse(key, "a string is expected");
  return value->get<std::string>();
}

StatusOr<std::optional<std::vector<std::string>>> JsonObject::Strings(std::string_view key,
                                                                      bool or_one) const {
  const nlohmann::json* value = Find(key);
  if (value == nullptr) return std::nullopt;
  if (or_one && value->is_string()) return std::vector<std::string>{value->get<std::string>()};
  const std::string_view expected =
      or_one ? "a string or a list of strings is expected" : "a list of strings is expected";
  if (!value->is_array()) return Refuse(key, expected);
  std::vector<std::string> strings;
  for (size_t i = 0; i < value->size(); ++i) {
    const nlohmann::json& element = (*value)[i];
    if (!element.is_string()) {
      return RefuseValue(absl::StrCat(PathOf(key), "[", i, "]"), element, "a string is expected");
    }
    strings.push_back(element.get<std::string>());
  }
  return strings;
}

StatusOr<std::vector<uint32_t>> JsonObject::TokenIds(std::string_view key) const {
  const nlohmann::json* value = Find(key);
  std::vector<uint32_t> ids;
  if (value == nullptr) return ids;
  if (!value->is_array()) return Refuse(key, "a list of token ids is expected");
  for (size_t i = 0; i < value->size(); ++i) {
    const std::optional<int64_t> id = ToInt((*value)[i]);
    if (!id || *id < 0 || *id > INT32_MAX) {
      return RefuseValue(absl::StrCat(PathOf(key), "[", i, "]"), (*value)[i], "a token id is expected");
    }
    ids.push_back(static_cast<uint32_t>(*id));
  }
  return ids;
}

}  // namespace coterie::gateway::http
