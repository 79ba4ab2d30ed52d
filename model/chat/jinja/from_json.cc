#include <nlohmann/json.hpp>

#include "model/chat/jinja/json.h"

namespace coterie::jinja {
namespace {

// Builds values while the text is read: an ordered tree of the library would look up every key in linear
// time.
class ValueReader : public nlohmann::json_sax<nlohmann::json> {
 public:
  explicit ValueReader(const Limits& limits) : limits_(limits) {}

  bool null() override { return Add(Value()); }
  bool boolean(bool b) override { return Add(Value(b)); }
  bool number_integer(int64_t i) override { return Add(Value(i)); }
  bool number_unsigned(uint64_t u) override {
    return Add(u <= INT64_MAX ? Value(static_cast<int64_t>(u)) : Big(std::to_string(u)));
  }
  bool number_float(double d, const std::string& text) override {
    const bool integer = text.find_first_not_of("-0123456789") == std::string::npos;
    return Add(integer ? Big(text) : Value(d));
  }
  bool string(std::string& s) override { return Add(Value(Text::Untrusted(s))); }
  bool binary(nlohmann::json::binary_t&) override {
    return Fail(absl::InvalidArgumentError("binary data in JSON"));
  }
  bool start_object(size_t) override { return Open(true); }
  bool start_array(size_t) override { return Open(false); }
  bool key(std::string& s) override {
    open_.back().key = Value(Text::Untrusted(s));
    return true;
  }
  bool end_object() override {
    Level level = std::move(open_.back());
    open_.pop_back();
    StatusOr<Value> dict = level.dict.Build(limits_);
    return dict.ok() ? Add(*std::move(dict)) : Fail(dict.status());
  }
  bool end_array() override {
    Level level = std::move(open_.back());
    open_.pop_back();
    StatusOr<Value> list = List::Make(std::move(level.items), limits_);
    return list.ok() ? Add(*std::move(list)) : Fail(list.status());
  }
  bool parse_error(size_t position, const std::string&, const nlohmann::json::exception&) override {
    return Fail(absl::InvalidArgumentError(absl::StrCat("the JSON text is malformed at byte ", position)));
  }

  StatusOr<Value> Take() {
    if (!status_.ok()) return status_;
    return std::move(result_);
  }

 private:
  struct Level {
    bool is_dict;
    DictBuilder dict;
    Value key;
    std::vector<Value> items;
  };

  static Value Big(std::string digits) {
    return Value(Value::BigInteger{std::make_shared<const std::string>(std::move(digits))});
  }

  bool Fail(Status status) {
    status_ = std::move(status);
    return false;
  }

  bool Open(bool is_dict) {
    if (open_.size() >= static_cast<size_t>(limits_.depth)) {
      return Fail(absl::ResourceExhaustedError(
          absl::StrCat("the JSON text nests deeper than the limit of ", limits_.depth)));
    }
    open_.push_back({is_dict});
    return true;
  }

  bool Add(Value value) {
    if (open_.empty()) {
      result_ = std::move(value);
      return true;
    }
    Level& level = open_.back();
    if (!level.is_dict) {
      level.items.push_back(std::move(value));
      return true;
    }
    const Status status = level.dict.Set(level.key, std::move(value));
    return status.ok() || Fail(status);
  }

  const Limits& limits_;
  std::vector<Level> open_;
  Value result_;
  Status status_;
};

}  // namespace

StatusOr<Value> FromJson(std::string_view json, const Limits& limits) {
  ValueReader reader(limits);
  if (!nlohmann::json::sax_parse(json.begin(), json.end(), &reader)) {
    const StatusOr<Value> result = reader.Take();
    return result.ok() ? absl::InvalidArgumentError("the JSON text is malformed") : result.status();
  }
  return reader.Take();
}

}  // namespace coterie::jinja
