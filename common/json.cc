#include "common/json.h"

#include <algorithm>
#include <cmath>
#include <set>

#include "common/content_kind.h"
#include "common/file.h"
#include "common/quoted.h"

namespace coterie {
namespace {

// First pass: well-formed and within bounds, before anything is built in memory.
class BoundsCheck {
 public:
  using number_integer_t = Json::number_integer_t;
  using number_unsigned_t = Json::number_unsigned_t;
  using number_float_t = Json::number_float_t;
  using string_t = Json::string_t;
  using binary_t = Json::binary_t;

  explicit BoundsCheck(const JsonLimits& limits) : limits_(limits) {}
  Status status = absl::OkStatus();

  bool null() { return Value(); }
  bool boolean(bool) { return Value(); }
  bool number_integer(number_integer_t) { return Value(); }
  bool number_unsigned(number_unsigned_t) { return Value(); }
  bool number_float(number_float_t, const string_t&) { return Value(); }
  bool string(string_t&) { return Value(); }
  bool binary(binary_t&) { return Value(); }
  bool start_object(size_t) {
    keys_.emplace_back();
    return Value() && Depth();
  }
  bool key(string_t& key) {
    if (keys_.back().insert(key).second) return true;
    status = absl::InvalidArgumentError(absl::StrCat("key ", Quoted(key), " appears twice"));
    return false;
  }
  bool end_object() {
    keys_.pop_back();
    return true;
  }
  bool start_array(size_t) {
    keys_.emplace_back();
    return Value() && Depth();
  }
  bool end_array() {
    keys_.pop_back();
    return true;
  }
  bool parse_error(size_t position, const std::string&, const nlohmann::detail::exception& error) {
    std::string_view what = error.what();
    what = what.substr(std::min(what.size(), what.find("] ") + 2));  // drop the library's error number
    status = absl::InvalidArgumentError(
        absl::StrCat("not JSON: ", Shown(what, 2 * kMaxQuotedBytes), " (byte ", position, ")"));
    return false;
  }

 private:
  bool Value() {
    if (++n_values_ <= limits_.max_values) return true;
    status = absl::InvalidArgumentError(absl::StrCat("more than ", limits_.max_values, " JSON values"));
    return false;
  }
  bool Depth() {
    if (static_cast<int>(keys_.size()) <= limits_.max_depth) return true;
    status = absl::InvalidArgumentError(absl::StrCat("JSON nested deeper than ", limits_.max_depth));
    return false;
  }

  const JsonLimits limits_;
  size_t n_values_ = 0;
  std::vector<std::set<std::string>> keys_;  // one per open object or array
};

std::string RangeText(double min, double max) {
  return absl::StrCat("expected a number from ", min, " to ", max);
}

// A server's answer that was saved in a file's place: {"error": "Repository not found"}.
Status RefuseErrorBody(const Json& json, std::string_view name) {
  constexpr size_t kMaxFields = 6;
  if (!json.is_object() || json.size() > kMaxFields) return absl::OkStatus();
  for (const char* key : {"error", "detail", "message"}) {
    const auto it = json.find(key);
    if (it == json.end() || !(it->is_string() || it->is_object())) continue;
    return absl::InvalidArgumentError(absl::StrCat(ToAbsl(name), " is a server's error message, ",
                                                   JsonText(*it), ", not the file itself; fetch it again"));
  }
  return absl::OkStatus();
}

}  // namespace

StatusOr<Json> ParseJson(std::string_view text, std::string_view name, const JsonLimits& limits) {
  if (text.size() > limits.max_bytes) {
    return absl::InvalidArgumentError(
        absl::StrCat(ToAbsl(name), " has ", text.size(), " bytes, the limit is ", limits.max_bytes));
  }
  if (const Status status = CheckJson(text, limits); !status.ok()) {
    return ExplainRefusal(status, Content::kJson, text, name);
  }
  Json json = Json::parse(text.begin(), text.end(), nullptr, /*allow_exceptions=*/false);
  if (json.is_discarded()) return absl::InvalidArgumentError(absl::StrCat(ToAbsl(name), ": not JSON"));
  RETURN_IF_ERROR(RefuseErrorBody(json, name));
  return json;
}

Status CheckJson(std::string_view text, const JsonLimits& limits) {
  if (text.size() > limits.max_bytes) {
    return absl::InvalidArgumentError(
        absl::StrCat("has ", text.size(), " bytes, the limit is ", limits.max_bytes));
  }
  BoundsCheck check(limits);
  Json::sax_parse(text.begin(), text.end(), &check);
  return check.status;
}

StatusOr<Json> ReadJsonFile(const std::string& path, const JsonLimits& limits) {
  ASSIGN_OR_RETURN(const std::string text, ReadFile(path, limits.max_bytes));
  return ParseJson(text, path, limits);
}

std::string JsonText(const Json& value) {
  constexpr size_t kShown = 80;
  std::string text = value.dump(-1, ' ', /*ensure_ascii=*/true, Json::error_handler_t::replace);
  if (text.size() > kShown) text = text.substr(0, kShown) + "…";
  return text;
}

StatusOr<JsonFields> JsonFields::Of(const Json& object, std::string_view name) {
  if (!object.is_object()) {
    return absl::InvalidArgumentError(
        absl::StrCat(ToAbsl(name), " is ", JsonText(object), ", expected a JSON object"));
  }
  return JsonFields(&object, std::string(name));
}

const Json* JsonFields::Find(std::string_view key) const {
  const auto it = object_->find(key);
  return it == object_->end() || it->is_null() ? nullptr : &*it;
}

Status JsonFields::Missing(std::string_view key) const {
  return absl::InvalidArgumentError(absl::StrCat(name_, ": field ", Quoted(key), " is missing"));
}

Status JsonFields::Refuse(std::string_view key, std::string_view what, absl::StatusCode code) const {
  const auto it = object_->find(key);
  return Status(code, absl::StrCat(name_, ": field ", Quoted(key), " is ",
                                   it == object_->end() ? "missing" : JsonText(*it), ", ", ToAbsl(what)));
}

StatusOr<int64_t> JsonFields::Int(std::string_view key, int64_t min, int64_t max) const {
  const Json* value = Find(key);
  if (value == nullptr) return Missing(key);
  const std::string range = absl::StrCat("expected an integer from ", min, " to ", max);
  if (!value->is_number_integer()) return Refuse(key, range);
  if (value->is_number_unsigned() && value->get<uint64_t>() > static_cast<uint64_t>(INT64_MAX)) {
    return Refuse(key, range);
  }
  const int64_t number = value->get<int64_t>();
  if (number < min || number > max) return Refuse(key, range);
  return number;
}

StatusOr<int64_t> JsonFields::IntOr(std::string_view key, int64_t fallback, int64_t min, int64_t max) const {
  if (!Has(key)) return fallback;
  return Int(key, min, max);
}

StatusOr<double> JsonFields::Number(std::string_view key, double min, double max) const {
  const Json* value = Find(key);
  if (value == nullptr) return Missing(key);
  if (!value->is_number()) return Refuse(key, RangeText(min, max));
  const double number = value->get<double>();
  if (!(number >= min && number <= max)) return Refuse(key, RangeText(min, max));
  return number;
}

StatusOr<double> JsonFields::NumberOr(std::string_view key, double fallback, double min, double max) const {
  if (!Has(key)) return fallback;
  return Number(key, min, max);
}

StatusOr<bool> JsonFields::BoolOr(std::string_view key, bool fallback) const {
  const Json* value = Find(key);
  if (value == nullptr) return fallback;
  if (!value->is_boolean()) return Refuse(key, "expected true or false");
  return value->get<bool>();
}

StatusOr<std::string> JsonFields::String(std::string_view key) const {
  const Json* value = Find(key);
  if (value == nullptr) return Missing(key);
  if (!value->is_string()) return Refuse(key, "expected a string");
  return value->get<std::string>();
}

StatusOr<std::string> JsonFields::StringOr(std::string_view key, std::string_view fallback) const {
  if (!Has(key)) return std::string(fallback);
  return String(key);
}

StatusOr<std::vector<std::string>> JsonFields::Strings(std::string_view key) const {
  const Json* value = Find(key);
  std::vector<std::string> out;
  if (value == nullptr) return out;
  if (value->is_string()) {
    out.push_back(value->get<std::string>());
    return out;
  }
  if (!value->is_array()) return Refuse(key, "expected a string or a list of strings");
  for (const Json& element : *value) {
    if (!element.is_string()) return Refuse(key, "expected a string or a list of strings");
    out.push_back(element.get<std::string>());
  }
  return out;
}

StatusOr<std::vector<int64_t>> JsonFields::Ints(std::string_view key, int64_t min, int64_t max) const {
  const Json* value = Find(key);
  std::vector<int64_t> out;
  if (value == nullptr) return out;
  const std::string what = absl::StrCat("expected an integer or a list of integers from ", min, " to ", max);
  const auto take = [&](const Json& element) {
    if (!element.is_number_integer()) return false;
    if (element.is_number_unsigned() && element.get<uint64_t>() > static_cast<uint64_t>(INT64_MAX))
      return false;
    out.push_back(element.get<int64_t>());
    return out.back() >= min && out.back() <= max;
  };
  if (!value->is_array()) {
    if (!take(*value)) return Refuse(key, what);
    return out;
  }
  for (const Json& element : *value) {
    if (!take(element)) return Refuse(key, what);
  }
  return out;
}

StatusOr<std::vector<double>> JsonFields::Numbers(std::string_view key, double min, double max) const {
  const Json* value = Find(key);
  std::vector<double> out;
  if (value == nullptr) return out;
  if (!value->is_array()) return Refuse(key, "expected a list of numbers");
  for (const Json& element : *value) {
    const double number = element.is_number() ? element.get<double>() : min - 1;
    if (!(number >= min && number <= max)) {
      return Refuse(key, absl::StrCat("expected a list of numbers from ", min, " to ", max));
    }
    out.push_back(number);
  }
  return out;
}

StatusOr<JsonFields> JsonFields::Object(std::string_view key) const {
  const Json* value = Find(key);
  if (value == nullptr) return Missing(key);
  if (!value->is_object()) return Refuse(key, "expected an object");
  return JsonFields(value, absl::StrCat(name_, " ", ToAbsl(key)));
}

}  // namespace coterie
